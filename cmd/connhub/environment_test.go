package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/connhub/connhub/cli/terminal"
)

func TestUnknownVariablesKeepAHubFromStartingAndNothingElse(t *testing.T) {
	t.Setenv("CONNHUB_MAX_CONECTIONS", "5")
	t.Setenv("CONNHUB_SOMETHING_ELSE", "")
	t.Setenv("CONNHUB_ADDR", "127.0.0.1:1") // of a command that talks to a hub
	want := "connhub: the hub does not start:\n" +
		"  - unknown environment variable CONNHUB_MAX_CONECTIONS: did you mean " +
		"CONNHUB_MAX_CONNECTIONS?\n" +
		"  - unknown environment variable CONNHUB_SOMETHING_ELSE\n"
	for _, command := range hubCommands {
		if r := program.Run(t, "", command); r.Code != terminal.ExitUsage ||
			!strings.HasPrefix(r.Stderr, want) {
			t.Errorf("%s: exit %d, %s", command, r.Code, r.Stderr)
		}
	}
	if r := program.Run(t, "", "hubs"); r.Code != terminal.ExitError || !strings.Contains(
		r.Stderr, "can't reach 127.0.0.1:1",
	) {
		t.Errorf("hubs: exit %d, %s", r.Code, r.Stderr)
	}
	if r := program.Run(t, "", "version"); r.Code != terminal.ExitOK {
		t.Errorf("version: exit %d, %s", r.Code, r.Stderr)
	}
}

// The variables are those that Kubernetes sets for Services named connhub, connhub-grpc and
// connhub-clients-2, with a single port and with named ones.
func TestVariablesOfKubernetesAndOfTestsAreNoMistakes(t *testing.T) {
	parser, err := newParser(&commandSet{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	environ := []string{
		"PATH=/bin", "CONNHUB=x", "NOCONNHUB_X=1",
		"CONNHUB_TEST_LONG=1", "CONNHUB_BENCH_BINARY=/bin/x", "CONNHUB_NAME=n",
	}
	for _, service := range []string{"CONNHUB", "CONNHUB_GRPC", "CONNHUB_CLIENTS_2"} {
		for _, variable := range []string{
			"SERVICE_HOST=10.0.0.1", "SERVICE_PORT=9090", "SERVICE_PORT_GRPC=9090",
			"SERVICE_PORT_WEB_2=80", "PORT=tcp://10.0.0.1:9090",
			"PORT_9090_TCP=tcp://10.0.0.1:9090", "PORT_9090_TCP_PROTO=tcp",
			"PORT_9090_TCP_PORT=9090", "PORT_9090_TCP_ADDR=10.0.0.1",
			"PORT_53_UDP=udp://10.0.0.1:53", "PORT_53_UDP_ADDR=10.0.0.1",
		} {
			environ = append(environ, service+"_"+variable)
		}
	}
	if err := checkEnvironment(parser.Model, environ); err != nil {
		t.Error(err)
	}
	for _, name := range []string{
		"CONNHUB_", "CONNHUB_PORTS=1",
		"CONNHUB_LISTEN=1", "CONNHUB_PORT_X=1", "CONNHUB_TESTS=1", "CONNHUB_ping_interval=1s",
	} {
		if checkEnvironment(parser.Model, []string{name}) == nil {
			t.Errorf("%s is no mistake", name)
		}
	}
	// No flag's variable has a name that Kubernetes sets: its value would be read as the flag's.
	_ = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && slices.ContainsFunc(
			flag.Envs, serviceLink.MatchString,
		) {
			t.Errorf("--%s has the variable of a Service", flag.Name)
		}
		return next(nil)
	})
}

func TestMistakesAreCounted(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"abc", "", 3},
		{"", "ab", 2},
		{"abc", "abc", 0},
		{"abc", "axc", 1},
		{"abc", "ac", 1},
		{"kitten", "sitting", 3},
	} {
		if got := countMistakes(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
