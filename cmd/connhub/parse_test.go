package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/cli"
	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/internal/testkit"
)

func TestHelpOfEachCommandStaysAsItIs(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"help.txt":                   {"--help"},
		"help_serve.txt":             {"serve", "--help"},
		"help_dev.txt":               {"dev", "-h"},
		"help_send.txt":              {"send", "--help"},
		"help_connections.txt":       {"connections", "--help"},
		"help_connections_close.txt": {"connections", "close", "--help"},
		"help_groups_add.txt":        {"groups", "add", "--help"},
		"help_permissions.txt":       {"permissions", "--help"},
		"help_permissions_grant.txt": {"permissions", "grant", "--help"},
		"help_events_tail.txt":       {"events", "tail", "--help"},
		"help_token.txt":             {"token", "--help"},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CompareGolden(t, name, program.MustRun(t, args...))
		})
	}
	if got, want := program.MustRun(t), program.MustRun(t, "--help"); got != want {
		t.Errorf("without a command:\n%s\nwant the help", got)
	}
}

func TestHelpOfBenchesStaysAsItIs(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"help_bench.txt":         {"bench", "--help"},
		"help_bench_fanout.txt":  {"bench", "fanout", "--help"},
		"help_bench_unicast.txt": {"bench", "unicast", "--help"},
		"help_bench_connect.txt": {"bench", "connect", "--help"},
		"help_bench_idle.txt":    {"bench", "idle", "--help"},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CompareGolden(t, name, program.MustRun(t, args...))
		})
	}
}

func TestUsageErrorsExit2WithOneLineAndAHint(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"bogus"}, "unexpected argument bogus"},
		{[]string{"send", "--everyone"}, `expected "<text>"`},
		{[]string{"send", "--evryone", "x"}, "unknown flag --evryone"},
		{[]string{"send", "x"}, "name a target: --connection ID, --user USER, --group GROUP " +
			"or --everyone"},
		{[]string{"send", "--except-user=ann", "x"}, "name a target"},
		{[]string{"send", "--everyone", "--wait=forever", "x"}, "--wait must be one of"},
		{[]string{
			"send", "--everyone", "--binary", "--json-payload", "x",
		}, "can't be used together"},
		{[]string{
			"send", "--everyone", "--binary", "x",
		}, "with --binary give - (standard input) or @FILE"},
		{[]string{"send", "--everyone", "--binary", "@/nowhere"}, "no such file"},
		{[]string{"send", "--everyone", "--whole", "x"}, "--whole is for standard input"},
		{[]string{"send", "--everyone", "--message-id=m", "-"}, "--message-id is for one message"},
		{[]string{"send", "--everyone", "--metadata=a", "x"}, "--metadata"},
		{[]string{"send", "--everyone", "--ttl=soon", "x"}, "--ttl"},
		{[]string{"connections", "close"}, "name a target"},
		{[]string{"connections", "close", "--everyone"}, "--everyone needs --max-matched N"},
		{[]string{"groups", "add", "--user=ann"}, `expected "<name> ..."`},
		{[]string{"groups", "remove", "--user=ann"}, "name the groups to leave, or give --all"},
		{[]string{
			"groups", "remove", "--user=ann", "--all", "blue",
		}, "name the groups to leave, or give --all"},
		{[]string{"permissions", "grant", "send-to-group"}, "name a target"},
		{[]string{"permissions", "grant", "--user=ann"}, `expected "<permission> ..."`},
		{[]string{
			"permissions", "grant", "--user=ann", "send:g",
		}, `"send:g" is no permission: want join-leave-group or send-to-group`},
		{[]string{
			"permissions", "revoke", "--user=ann", "send-to-group:",
		}, `"send-to-group:" is no permission`},
		{[]string{"hubs", "--secret-file=/nowhere"}, "no such file"},
		{[]string{"hubs", "--tls-ca-file=/nowhere"}, "no such file"},
		{[]string{"dev", "--outbox-bytes=many"}, "is not a size such as"},
		{[]string{"dev", "--overflow=conflate"}, "--overflow must be one of"},
		{[]string{"dev", "--log-level=loud"}, "--log-level"},
		{[]string{"dev", "--config=/nowhere"}, "no such file"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			r := program.Run(t, "", tt.args...)
			first, _, _ := strings.Cut(r.Stderr, "\n")
			if r.Code != terminal.ExitUsage ||
				!strings.HasPrefix(first, "connhub: ") || !strings.Contains(first, tt.want) {
				t.Errorf("exit %d, stderr %q; want exit 2, %q", r.Code, r.Stderr, tt.want)
			}
			if r.Stdout != "" {
				t.Errorf("stdout %q", r.Stdout)
			}
		})
	}
}

func TestSettingsComeFromFlagsThenEnvironmentThenFile(t *testing.T) {
	for name, content := range map[string]string{
		"config.yaml": "ping-interval: 11s\npong-timeout: 12s\nclose-timeout: " +
			"13s\nmax-connections: 77\noutbox-bytes: 8MiB\n" +
			"max-message: 4096\nallowed-origin: [a.example, b.example]\nnamespace-overflow: " +
			"{chat: drop-oldest}\npublic-url: https://hub.example\n",
		"config.json": `{"ping-interval": "11s", "pong-timeout": "12s", "close-timeout": "13s",
			"max-connections": 77, "outbox-bytes": "8MiB", "max-message": 4096,
			"allowed-origin": ["a.example", "b.example"],
			"namespace-overflow": {"chat": "drop-oldest"}, "public-url": "https://hub.example"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CONNHUB_PONG_TIMEOUT", "21s")
			t.Setenv("CONNHUB_CLOSE_TIMEOUT", "22s")
			c, err := parse(
				t, "serve", "--config="+testkit.WriteFile(t, name, content), "--close-timeout=31s",
			)
			if err != nil {
				t.Fatal(err)
			}
			s := c.Serve.settings
			if s.PingInterval != 11*time.Second ||
				s.PongTimeout != 21*time.Second || s.CloseTimeout != 31*time.Second {
				t.Errorf("ping %v (want the file's), pong %v (the environment's), close %v "+
					"(the flag's)", s.PingInterval, s.PongTimeout, s.CloseTimeout)
			}
			n := s.MaxConnections
			if n == nil || *n != 77 || s.OutboxBytes != 8<<20 || s.MaxMessage != 4096 {
				t.Errorf("numbers from the file: %v, %d, %d",
					s.MaxConnections, s.OutboxBytes, s.MaxMessage)
			}
			if diff := cmp.Diff([]string{"a.example", "b.example"}, s.AllowedOrigin); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(
				map[string]string{"chat": "drop-oldest"}, s.NamespaceOverflow,
			); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff("https://hub.example", s.PublicURL); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfigFileMayBeNamedByTheEnvironment(t *testing.T) {
	t.Setenv("CONNHUB_CONFIG", testkit.WriteFile(t, "c.yaml", "name: from-file\n"))
	c, err := parse(t, "serve")
	if err != nil || c.Serve.Name != "from-file" {
		t.Errorf("name %q, %v", c.Serve.Name, err)
	}
}

func TestConfigFileWithMistakesIsRefused(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"ping-intervall: 3s\nport: 1\n": "unknown key \"ping-intervall\": did you mean " +
			"ping-interval?\nunknown key \"port\"",
		"config: other.yaml\n":  `unknown key "config"`,
		"everyone: true\n":      `unknown key "everyone"`,
		"ping-interval: soon\n": "ping-interval",
		"ping-interval:\n":      `key "ping-interval" has no value`,
		"- a\n- b\n":            "neither YAML nor JSON",
		"{":                     "neither YAML nor JSON",
	} {
		_, err := parse(t, "dev", "--config="+testkit.WriteFile(t, "c.yaml", content))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("config %q: error %v, want %q", content, err, want)
		}
	}
	if _, err := parse(t, "dev", "--config="+testkit.WriteFile(t, "c.yaml", "")); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

// The target of a command must stand on its command line: a variable that is set by chance would be
// a target. And a setting's variable must be found by its flag's name.
func TestVariablesAreNamedAsTheirFlagsAndNeverATarget(t *testing.T) {
	parser, err := newParser(&commandSet{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for field := range reflect.TypeFor[cli.TargetFlags]().Fields() {
		targets[field.Name] = true
	}
	err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		flag, ok := node.(*kong.Flag)
		if !ok {
			return next(nil)
		}
		want := "CONNHUB_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		for _, name := range flag.Envs {
			if name != want {
				t.Errorf("--%s has the variable %s, want %s", flag.Name, name, want)
			}
		}
		if len(flag.Envs) > 0 && (strings.HasPrefix(flag.Name, "except-") ||
			targets[strings.ToUpper(flag.Name[:1])+flag.Name[1:]]) {
			t.Errorf("--%s is a target and has a variable", flag.Name)
		}
		return next(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range parser.Model.Children {
		if node.Name != "serve" && node.Name != "dev" {
			continue
		}
		for _, flag := range node.Flags {
			if len(flag.Envs) != 1 {
				t.Errorf("%s --%s has the variables %v, want one", node.Name, flag.Name, flag.Envs)
			}
		}
	}
}

func TestByteSizesReadAndWriteTheirUnits(t *testing.T) {
	for text, want := range map[string]byteSize{
		"0": 0, "1": 1, "17B": 17,
		"64KiB": 65536, "4MiB": 4 << 20, "4 MiB": 4 << 20, "2GiB": 2 << 30, "1048577": 1<<20 + 1,
	} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
		var again byteSize
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%d is written %q, which is %d, %v", got, got, again, err)
		}
	}
	for _, text := range []string{
		"", "-1", "4MB", "MiB", "1.5MiB", "9223372036854775807KiB", "0x10",
	} {
		var b byteSize
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d, want an error", text, b)
		}
	}
}

func TestVersionNamesTheBinary(t *testing.T) {
	t.Parallel()
	if got := program.MustRun(t, "version"); !strings.HasPrefix(got,
		"connhub "+build.Version()+" (go1.") {
		t.Errorf("version: %q", got)
	}
}
