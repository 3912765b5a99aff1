package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/connhub/connhub/auth"
)

type devCmd struct {
	settings

	DataDir string `env:"CONNHUB_DATA_DIR" placeholder:"DIR" group:"Other" help:"Keeps the key of client tokens, so that they outlive a restart. (connhub/dev in the user's cache)"`
}

// Help is shown by --help below the usage.
func (devCmd) Help() string {
	return `Listens on loopback only. Clients need no token: they are whom the query says, as in
/?user=ann&group=blue&group=red. Backends need no secret.

The page at / shows what arrives; "connhub send" and the other commands find this hub by themselves.`
}

func (c *devCmd) Run(ctx context.Context, t *terminal, k *kong.Context) error {
	plan, err := c.plan()
	if err != nil {
		return err
	}
	logger := newLogger(t.stderr, c.LogFormat, c.LogLevel)
	level := slog.LevelInfo
	if isTerminal(t.stderr) {
		level = slog.LevelDebug // the banner says what matters
	}
	logger.Log(ctx, level, "effective configuration", slog.Any("config", effective(k)))
	return runServer(ctx, plan, logger, func(a addresses) { t.banner(a, plan.clientsTLS != nil) })
}

// plan checks everything and lists all problems in one error.
func (c *devCmd) plan() (serverPlan, error) {
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
		problems = append(problems, checkLoopback(l.flag, *l.address, "dev listens on loopback only; see connhub serve"))
	}
	plan, err := c.settings.plan()
	problems = append(problems, err)
	plan.loopbackOnly, plan.anonymous, plan.insecureControl, plan.page = true, true, true, true
	if plan.tokens, err = c.tokenKey(); err != nil {
		problems = append(problems, fmt.Errorf("--data-dir: %w", err))
	}
	return plan, refusal(problems...)
}

const (
	tokenKeyName  = "token.key"
	tokenKeyBytes = 32 // as long as the hash of HS256
)

// tokenKey loads the key of the data directory, and makes it the first time.
func (c *devCmd) tokenKey() (*auth.TokenKey, error) {
	if c.DataDir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		c.DataDir = filepath.Join(cache, "connhub", "dev")
	}
	path := filepath.Join(c.DataDir, tokenKeyName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeTokenKey(path); err != nil {
			return nil, err
		}
	}
	return auth.LoadTokenKey(path)
}

// makeTokenKey writes a new key. It is written whole or not at all: a second `dev` that starts at the same
// time must not read half a key.
func makeTokenKey(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	key := make([]byte, tokenKeyBytes)
	_, _ = rand.Read(key)                                          // never fails: crypto/rand ends the process instead
	f, err := os.CreateTemp(filepath.Dir(path), tokenKeyName+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(base64.RawStdEncoding.EncodeToString(key) + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		// Unlike a rename, a link does not replace the key of whoever was faster.
		if err = os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// banner says where things are and what to try.
func (t *terminal) banner(a addresses, secure bool) {
	page, clients := "http://"+a.clients, "ws://"+a.clients
	if secure {
		page, clients = "https://"+a.clients, "wss://"+a.clients
	}
	command := func(text string) string { return t.out.dim("  $ ") + "connhub " + text }
	addr := ""
	if a.control != loopbackHost+defaultListenControl {
		addr = " --addr " + a.control
	}
	lines := []string{
		"",
		"  " + t.out.bold("connhub dev") + t.out.dim(" "+buildVersion()),
		"",
		"  " + t.out.dim("page   ") + "  " + t.out.cyan(page+"/?user=ann&group=blue"),
		"  " + t.out.dim("clients") + "  " + clients + "/ws?user=ann&group=blue",
		"  " + t.out.dim("control") + "  " + a.control + t.out.dim("  gRPC, no secret needed"),
		"  " + t.out.dim("ops    ") + "  http://" + a.ops + "/metrics",
		"",
		"  Open the page, then try:",
		command(`send --user ann "Hello, Ann"` + addr),
		command(`send --group blue --json-payload '{"score": 3}'` + addr),
		command(`connections` + addr),
		"",
		t.out.dim("  Only this machine can connect. Ctrl-C stops the hub."),
		"",
		"",
	}
	_, _ = t.stdout.Write([]byte(strings.Join(lines, "\n")))
}
