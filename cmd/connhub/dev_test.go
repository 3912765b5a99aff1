package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/discovery/embedded"
	"github.com/connhub/connhub/internal/devdir"
	"github.com/connhub/connhub/internal/loopback"
	"github.com/connhub/connhub/node"
)

func TestTheCommandForASecondHubNamesTheDataDirUnlessItIsTheDefault(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	fallback, err := devdir.DefaultPath()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for dir, want := range map[string]string{
		"":               "",
		fallback:         "",
		"/var/lib/hub":   " --data-dir /var/lib/hub",
		"/var/Ann's hub": ` --data-dir '/var/Ann'\''s hub'`,
	} {
		c := &devCmd{DataDir: dir}
		if err := c.setDataDir(); err != nil {
			t.Fatal(err)
		}
		_, got, _ := strings.Cut(c.joinCommand(
			"127.0.0.1:2379", node.Addresses{
				Clients: "127.0.0.1:0", Control: "127.0.0.1:0", Ops: "127.0.0.1:0",
			},
		), "--listen-ops 127.0.0.1:0")
		if got != want {
			t.Errorf("%q: %q, want %q", dir, got, want)
		}
	}
	c := &devCmd{DataDir: "here"}
	if got := c.joinCommand(
		"127.0.0.1:2379", node.Addresses{},
	); !strings.Contains(got, " --data-dir /") || !strings.HasSuffix(got, "/here") {
		t.Errorf("a relative folder: %s", got)
	}
}

func TestAWordIsQuotedAsAShellReadsIt(t *testing.T) {
	for _, word := range []string{"", "/a/b-c_d.e", "a b", "it's", "$HOME", `a\b"c`, "ü", "*"} {
		command := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+shellWord(word))
		out, err := command.Output()
		if err != nil || string(out) != word {
			t.Errorf("%q: a shell reads %q as %q (%v)", word, shellWord(word), out, err)
		}
	}
}

func TestAStartThatTakesLongIsNotedOnce(t *testing.T) {
	c := &devCmd{Join: "127.0.0.1:2379"}
	const want = "joining the cluster: waiting for etcd (--join 127.0.0.1:2379); Ctrl-C " +
		"stops the hub\n"
	for _, tt := range []struct {
		after time.Duration // of the start
		want  string
	}{{noteAfter - 1, ""}, {time.Hour, want}} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			ctx, cancel := context.WithTimeout(t.Context(), tt.after)
			defer cancel()
			noteLater(ctx, terminal.New(nil, io.Discard, &out), func() string {
				return c.waitWords("joining the cluster: waiting for etcd")
			})
			<-ctx.Done()
			if out.String() != tt.want {
				t.Errorf("after %v: %q, want %q", tt.after, out.String(), tt.want)
			}
		})
	}
}

func TestDevRefusesASettingWithoutEffect(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string]string{
		"--join=127.0.0.1:2379 " +
			"--etcd-listen=127.0.0.1:0": "--etcd-listen has no effect with --join",
		"--allowed-origin=https://app.example.com": "has no effect: only pages of this " +
			"machine are served",
	} {
		r := program.Run(t, "", append([]string{
			"dev", "--data-dir=" + t.TempDir(),
		}, strings.Fields(flags)...)...)
		if r.Code != terminal.ExitUsage || !strings.Contains(r.Stderr, want) {
			t.Errorf("%s: exit %d, %s", flags, r.Code, r.Stderr)
		}
	}
}

func TestTheCommandForASecondHubHasThreePorts(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	// Three ports in a row, all taken by the first hub.
	var taken []string
	for len(taken) < 3 {
		taken = listeners(t, 3)
	}
	c := &devCmd{DataDir: "/d"}
	words := strings.Fields(
		c.joinCommand("127.0.0.1:2379", node.Addresses{
			Clients: taken[0], Control: taken[1], Ops: taken[2],
		}),
	)
	ports := map[string]bool{}
	for _, w := range []string{words[4], words[6], words[8]} {
		if slices.Contains(taken, w) || ports[w] {
			t.Errorf("%q suggests %s", words, w)
		}
		ports[w] = true
	}
}

// listeners takes n ports in a row until the test ends. It takes none if they are not all free.
func listeners(t *testing.T, n int) (taken []string) {
	t.Helper()
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	all := []net.Listener{first}
	for len(all) < n {
		l, err := net.Listen(
			"tcp", fmt.Sprintf("127.0.0.1:%d", first.Addr().(*net.TCPAddr).Port+len(all)),
		)
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
			return nil
		}
		all = append(all, l)
	}
	for _, l := range all {
		t.Cleanup(func() { _ = l.Close() })
		taken = append(taken, l.Addr().String())
	}
	return taken
}

func TestDevDoesNotAdviseItself(t *testing.T) {
	t.Parallel()
	c, err := parse(t, "dev", "--join=127.0.0.1:2379",
		"--listen-clients=0.0.0.0:8081", "--data-dir="+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Dev.planHub()
	if err == nil || strings.Contains(err.Error(), "connhub dev") || !strings.Contains(
		err.Error(), "connhub serve",
	) {
		t.Errorf("it says %v", err)
	}
}

// The same hosts are loopback for every flag, and for the Host header.
func TestWhatLoopbackIsDoesNotDependOnThePlace(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "app.localhost": true, "localhost.": true,
		"127.0.0.1": true, "127.9.9.9": true, "[::1]": true, "[::ffff:127.0.0.1]": true,
		"": false, "0.0.0.0": false, "[::]": false, "10.0.0.1": false, "localhost.example": false,
	} {
		address := host + ":8080"
		keys := auth.KeySetConfig{Source: "http://" + address + "/jwks", Interval: time.Hour}
		etcd := embedded.DefaultConfig()
		etcd.Dir, etcd.ClientAddress = "x", address
		for place, local := range map[string]bool{
			"listen": checkLoopback("--listen", address, "x") == nil,
			"Host":   loopback.IsHost(address), "--token-jwks": keys.Validate() == nil,
			"--etcd-listen": etcd.Validate() == nil,
		} {
			if local != want {
				t.Errorf("%s, %s: %t", place, address, local)
			}
		}
	}
}
