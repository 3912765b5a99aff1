package k8s

import (
	"os/exec"
	"strings"
	"testing"
)

// The image's binary has no etcd for `connhub dev`, and says so before anything else is wrong: in
// the image there is not even a home for --data-dir.
func TestTheBinaryOfTheImageSaysWhatDevNeeds(t *testing.T) {
	t.Parallel()
	const joined = "dev --join 127.0.0.1:1 --data-dir /dev/null/x --etcd-listen 127.0.0.1:1"
	for _, tt := range []struct {
		args string
		exit int
		want string
	}{
		{"dev", 2, "use connhub serve, or join the etcd of another hub with --join HOST:PORT"},
		{"dev --help", 0, "This binary was built without etcd: dev needs --join"},
		{joined, 2, "--etcd-listen has no effect with --join"},
	} {
		run := exec.CommandContext(t.Context(), hubBinary, strings.Fields(tt.args)...)
		run.Env = []string{}
		out, _ := run.CombinedOutput()                         // its exit code is looked at below
		text := strings.Join(strings.Fields(string(out)), " ") // help is wrapped
		code := run.ProcessState.ExitCode()
		if code != tt.exit || !strings.Contains(text, tt.want) {
			t.Errorf("connhub %s: exit %d, %s", tt.args, code, out)
		}
	}
	for _, args := range []string{"--help", "serve", "hubs --addr 127.0.0.1:1"} {
		run := exec.CommandContext(t.Context(), hubBinary, strings.Fields(args)...)
		run.Env = []string{}
		out, _ := run.CombinedOutput()
		if len(out) == 0 || strings.Contains(string(out), "connhub dev") {
			t.Errorf("connhub %s advises to start connhub dev: %s", args, out)
		}
	}
}
