package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/kong"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/discovery/embedded"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/internal/devdir"
	"github.com/connhub/connhub/internal/loopback"
	"github.com/connhub/connhub/node"
)

type devCmd struct {
	settings

	EtcdListen string `name:"etcd-listen" sets:"Etcd.ClientAddress" placeholder:"HOST:PORT" group:"Cluster" help:"Address of the etcd inside this hub. (${default})"`
	Join       string `name:"join" placeholder:"HOST:PORT" group:"Cluster" help:"Join the hubs of this etcd, for example of another dev, and start no etcd."`

	DataDir string `name:"data-dir" placeholder:"DIR" group:"Other" help:"Folder for etcd's data and the key of client tokens, so that tokens outlive a restart. (connhub/dev in the user's cache)"`
}

// devPrefix is the place of the hubs of `dev` in etcd. They are never among the hubs of a cluster
// in production, whatever etcd --join reaches.
const devPrefix = "/connhub-dev"

// Help is shown by --help below the usage.
func (devCmd) Help() string {
	if !build.HasEtcd {
		return "This binary was built without etcd: " +
			"dev needs --join, and --etcd-listen has no effect.\n\n" + devHelp
	}
	return devHelp
}

const devHelp = `Listens on loopback only. Clients need no token: the query names their user and
groups, as in /?user=ann&group=blue&group=red. Backends need no secret.

The page at / shows what arrives; "connhub send" and the other commands find this hub by
themselves.

A second hub on this machine joins the first one's etcd, on ports of its own:

    connhub dev ` + joinExample + `

Both take the same client tokens if they have the same --data-dir and --public-url.`

func (c *devCmd) Run(ctx context.Context, t *terminal.Terminal, k *kong.Context) error {
	plan, err := c.planHub()
	if err != nil {
		return err
	}
	onTerminal := terminal.IsTerminal(t.Stderr) // before the log takes its place
	log := startLog(t, c.LogFormat, c.LogLevel)
	level := slog.LevelInfo
	if onTerminal {
		level = slog.LevelDebug // the banner has the important parts
	}
	log.Log(ctx, level, "effective configuration", slog.Any("config", effectiveConfig(k)))
	ctx, hangups := watchHangups(ctx, log.Logger)
	defer hangups.Close()
	plan.Log, plan.Reloads = log, hangups.reloads
	stopNote := func() {} // a log has lines for it
	if onTerminal {
		stopNote = c.noteWait(ctx, t, plan.Cluster)
	}
	defer stopNote()
	plan.Ready = func(a node.Addresses) {
		stopNote()
		second := ""
		if a.Etcd != "" {
			second = c.joinCommand(a.Etcd, a)
		}
		printBanner(t, a, plan.ClientsTLS != nil, second)
	}
	err = runHub(ctx, plan)
	if errors.Is(err, node.ErrTaken) {
		return fmt.Errorf("%w%s", err, c.suggestSecond())
	}
	return err
}

// noteAfter is the time after which a terminal says why a start waits.
const noteAfter = 2 * time.Second

// noteWait makes a terminal say why the hub waits before it has joined the cluster. The function
// that it returns ends that, and may be called again.
func (c *devCmd) noteWait(
	ctx context.Context, t *terminal.Terminal, p *node.ClusterConfig,
) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var noting sync.WaitGroup
	p.Opened = func(waitsFor func() string) {
		noting.Go(func() { noteLater(ctx, t, func() string { return c.waitWords(waitsFor()) }) })
	}
	return func() {
		cancel()
		noting.Wait()
	}
}

// waitWords adds the address of the cluster that the hub waits for, if it is elsewhere.
func (c *devCmd) waitWords(what string) string {
	if c.Join != "" {
		what += " (--join " + c.Join + ")"
	}
	return what + "; Ctrl-C stops the hub"
}

// noteLater prints a note once, unless ctx ends before noteAfter.
func noteLater(ctx context.Context, t *terminal.Terminal, words func() string) {
	select {
	case <-time.After(noteAfter):
		t.PrintNote("%s", words())
	case <-ctx.Done():
	}
}

// joinExample are the flags of a second hub beside a hub with all defaults.
const joinExample = "--join 127.0.0.1:2379 --listen-clients 127.0.0.1:8081 --listen-control " +
	"127.0.0.1:9091 --listen-ops 127.0.0.1:9101"

// suggestSecond returns the command line with which this hub would start beside the hub that has
// its ports. It returns "" if there is no etcd to join, and so perhaps no hub.
func (c *devCmd) suggestSecond() string {
	etcd := cmp.Or(c.Join, c.EtcdListen)
	if isFree(etcd) {
		return ""
	}
	return "\nTo add a second hub to the one that runs: connhub " +
		c.joinCommand(etcd, node.Addresses{
			Clients: c.ListenClients, Control: c.ListenControl, Ops: c.ListenOps,
		})
}

// joinCommand returns the command that starts a hub beside this hub, which has the addresses a. The
// two share the key of client tokens.
func (c *devCmd) joinCommand(etcd string, a node.Addresses) string {
	clients := nextFree(a.Clients)
	control := nextFree(a.Control, clients)
	ops := nextFree(a.Ops, clients, control)
	command := fmt.Sprintf("dev --join %s --listen-clients %s --listen-control %s --listen-ops %s",
		etcd, clients, control, ops)
	dir, err := filepath.Abs(c.DataDir) // it may be typed in another folder
	if err != nil {
		dir = c.DataDir
	}
	if fallback, err := devdir.DefaultPath(); err != nil || dir != fallback {
		command += " --data-dir " + shellWord(dir)
	}
	return command
}

// shellWord quotes a text for a shell where that is needed.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("/._-+:,@", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// nextFree returns address with the next port that is free and that no address of others has.
func nextFree(address string, others ...string) string {
	host, port, err := net.SplitHostPort(address)
	first, notNumber := strconv.ParseUint(port, 10, 16)
	if err != nil || notNumber != nil {
		return address
	}
	for n := first; n <= math.MaxUint16; n++ {
		port := strconv.FormatUint(n, 10)
		used := n > 0 && slices.ContainsFunc(others, func(o string) bool {
			return strings.HasSuffix(o, ":"+port)
		})
		if a := net.JoinHostPort(host, port); !used && isFree(a) {
			return a
		}
	}
	return address
}

// isFree reports whether the hub can listen at a loopback address.
func isFree(address string) bool {
	l, err := net.Listen("tcp", loopback.Address(address)) //nolint:noctx // binding does not wait
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// planHub checks everything. It returns all problems in a single error.
func (c *devCmd) planHub() (node.Config, error) {
	if err := checkEtcdIncluded(c.Join); err != nil {
		return node.Config{}, err
	}
	var problems []error
	for _, l := range []struct {
		flag     string
		address  *string
		fallback string
	}{
		{"--listen-clients", &c.ListenClients, loopbackHost + defaultListenClients},
		{"--listen-control", &c.ListenControl, loopbackHost + defaultListenControl},
		{"--listen-ops", &c.ListenOps, defaultListenOps},
	} {
		if *l.address == "" {
			*l.address = l.fallback
		}
		problems = append(problems, checkLoopback(l.flag, *l.address,
			"dev listens on loopback only; see connhub serve"))
	}
	c.onlyLoopback = true
	plan := newPlan(c)
	plan.Drain = node.DrainConfig{} // a person waits, and no balancer
	problems = append(problems, c.planSettings(plan))
	if err := c.setDataDir(); err != nil {
		return plan.Config, refuseStart("", append(problems, fmt.Errorf("--data-dir: %w", err))...)
	}
	problems = append(problems, c.planCluster(plan), plan.ShareFiles())
	plan.LoopbackOnly, plan.Anonymous, plan.InsecureControl, plan.Page = true, true, true, true
	key, err := c.tokenKey()
	if err != nil {
		problems = append(problems, fmt.Errorf("--data-dir: %w", err))
	}
	plan.TokenKeys = []*auth.TokenKey{key}
	return plan.Config, refuseStart("", problems...)
}

// planCluster sets the etcd: inside this process, or elsewhere on this machine.
func (c *devCmd) planCluster(p *plan) error {
	p.Cluster.Registry.Prefix = devPrefix
	if c.Join == "" {
		p.Cluster.Embedded = p.configs.Etcd
		p.Cluster.Embedded.Dir = filepath.Join(c.DataDir, "etcd")
		return p.nameFlags("Etcd", p.Cluster.Embedded.Validate())
	}
	if c.EtcdListen != embedded.DefaultConfig().ClientAddress {
		return errors.New("--etcd-listen has no effect with --join: this hub starts no etcd")
	}
	p.Cluster.Registry.Endpoints = []string{loopback.Address(c.Join)}
	return checkLoopback("--join", c.Join, "dev joins hubs of this machine only; see connhub serve")
}

// setDataDir gives DataDir its default.
func (c *devCmd) setDataDir() error {
	if c.DataDir != "" {
		return nil
	}
	dir, err := devdir.DefaultPath()
	c.DataDir = dir
	return err
}

const (
	tokenKeyBytes = 32 // as long as the hash of HS256
)

// tokenKey loads the key of the data directory. It makes the key the first time.
func (c *devCmd) tokenKey() (*auth.TokenKey, error) {
	path := filepath.Join(c.DataDir, devdir.TokenKey)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeTokenKey(path); err != nil {
			return nil, err
		}
	}
	return auth.LoadTokenKey(path)
}

// makeTokenKey writes a new key, whole or not at all: a second `dev` that starts at the same time
// must not read half a key.
func makeTokenKey(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	key := make([]byte, tokenKeyBytes)
	// never fails: crypto/rand ends the process instead
	_, _ = rand.Read(key)
	f, err := os.CreateTemp(filepath.Dir(path), devdir.TokenKey+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(base64.RawStdEncoding.EncodeToString(key) + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		// Unlike a rename, a link does not replace the key of a faster process.
		if err = os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// printBanner prints the addresses and commands to try. second is the command for a second hub; if
// it is empty, none is suggested.
func printBanner(t *terminal.Terminal, a node.Addresses, secure bool, second string) {
	page, clients := "http://"+a.Clients, "ws://"+a.Clients
	if secure {
		page, clients = "https://"+a.Clients, "wss://"+a.Clients
	}
	command := func(text string) string { return t.Out.DimText("  $ ") + "connhub " + text }
	addr := ""
	if a.Control != loopbackHost+defaultListenControl {
		addr = " --addr " + a.Control
	}
	lines := []string{
		"",
		"  " + t.Out.BoldText("connhub dev") + t.Out.DimText(" "+build.Version()),
		"",
		"  " + t.Out.DimText("page   ") + "  " + t.Out.CyanText(page+"/?user=ann&group=blue"),
		"  " + t.Out.DimText("clients") + "  " + clients + "/ws?user=ann&group=blue",
		"  " + t.Out.DimText("control") + "  " + a.Control +
			t.Out.DimText("  gRPC, no secret needed"),
		"  " + t.Out.DimText("ops    ") + "  http://" + a.Ops + "/metrics",
		"",
		"  Open the page, then try:",
		command(`send --user ann "Hello, Ann"` + addr),
		command(`send --group blue --json-payload '{"score": 3}'` + addr),
		command(`connections list` + addr),
		"",
	}
	if second != "" {
		lines = append(lines, "  A second hub beside this one:", command(second),
			command("hubs"+addr), "")
	}
	lines = append(lines,
		t.Out.DimText("  Only this machine can connect. Ctrl-C stops the hub."),
		"",
		"",
	)
	_, _ = t.Stdout.Write([]byte(strings.Join(lines, "\n")))
}
