package k8s

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

const (
	root       = "../../.." // of the project
	deployment = ".."       // deploy/k8s
)

// runAsEtcd makes this test's own program an etcd, the same that the image has: the variables come
// from the container.
const runAsEtcd = "RUN_AS_ETCD"

// The objects are held against these. TestMain sets them.
var (
	hubBinary string          // path of the real binary
	hubFlags  map[string]bool // flags of `connhub serve`, without dashes
	documents readme
)

func TestMain(m *testing.M) {
	if os.Getenv(runAsEtcd) != "" {
		_ = os.Unsetenv(runAsEtcd)
		etcdmain.Main(os.Args[:1])
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "connhub-k8s-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	hubBinary = filepath.Join(dir, "connhub")
	for _, step := range []func() error{buildHub, readFlags, readDocuments} {
		if err := step(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

var tagsOption = regexp.MustCompile(`(?m)^RUN .*go build .*-tags (\w+) `)

// buildHub builds the binary that the image has: with the Dockerfile's build tag, and with
// -trimpath as `make build`, whose work is cached.
func buildHub() error {
	dockerfile, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		return err
	}
	tags := tagsOption.FindSubmatch(dockerfile)
	if tags == nil {
		return errors.New("Dockerfile: no go build with -tags")
	}
	build := exec.Command("go", "build", "-tags", string(tags[1]), "-trimpath",
		"-o", hubBinary, "./cmd/connhub")
	build.Dir = root
	// A workspace of the developer's would take the place of the project's go.mod.
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./cmd/connhub: %w\n%s", err, out)
	}
	return nil
}

var flagLine = regexp.MustCompile(`(?m)^ +(?:-[a-z], )?--(?:\[no-\])?([a-z][a-z0-9-]*)`)

func readFlags() error {
	out, err := exec.Command(hubBinary, "serve", "--help").CombinedOutput()
	if err != nil {
		return fmt.Errorf("connhub serve --help: %w\n%s", err, out)
	}
	hubFlags = make(map[string]bool)
	for _, line := range flagLine.FindAllStringSubmatch(string(out), -1) {
		hubFlags[line[1]] = true
	}
	if !hubFlags["listen-clients"] {
		return fmt.Errorf("no --listen-clients in connhub serve --help:\n%s", out)
	}
	return nil
}

// readme holds the statements of README.md about Secrets.
type readme struct {
	secrets  map[string]document // by name
	commands string              // all lines that make a Secret
}

type document struct {
	keys  []string
	use   string   // its purpose, in words
	names []string // in the certificate
}

var (
	secretRow = regexp.MustCompile(
		"(?m)^\\| `(connhub-[a-z-]+)` \\| ([^|]+) \\| ([^|]+) \\|([^|]*)\\|$",
	)
	quoted   = regexp.MustCompile("`([^`]+)`")
	makesOne = regexp.MustCompile(`(?m)^kubectl create secret .*$`)
)

func readDocuments() error {
	text, err := os.ReadFile(filepath.Join(deployment, "README.md"))
	if err != nil {
		return err
	}
	words := func(cell string) (all []string) {
		for _, w := range quoted.FindAllStringSubmatch(cell, -1) {
			all = append(all, w[1])
		}
		return all
	}
	documents.secrets = make(map[string]document)
	for _, row := range secretRow.FindAllStringSubmatch(string(text), -1) {
		documents.secrets[row[1]] = document{keys: words(row[2]), use: row[3], names: words(row[4])}
	}
	documents.commands = strings.Join(makesOne.FindAllString(string(text), -1), "\n")
	if len(documents.secrets) == 0 || documents.commands == "" {
		return fmt.Errorf("README.md: %d Secrets in its table, commands: %q",
			len(documents.secrets), documents.commands)
	}
	return nil
}
