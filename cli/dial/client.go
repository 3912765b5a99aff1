package dial

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/internal/trust"
)

// Flags are common to all commands that call a hub. Package kong fills them in.
type Flags struct {
	// Addr: host:port of the control port of any hub.
	Addr string `default:"127.0.0.1:9090" env:"CONNHUB_ADDR" placeholder:"HOST:PORT" group:"Hub" help:"Control address of any hub. (${default})"`
	// Namespace is the namespace that the command works in.
	Namespace string `short:"n" default:"default" env:"CONNHUB_NAMESPACE" placeholder:"NAME" group:"Hub" help:"Namespace. (${default})"`
	// SecretFile: a file with a secret of a backend; empty: none is sent.
	SecretFile string `env:"CONNHUB_SECRET_FILE" placeholder:"FILE" group:"Hub" help:"File with the secret of a backend; the first secret is used."`
	// TLS: use TLS.
	TLS bool `name:"tls" env:"CONNHUB_TLS" group:"Hub" help:"Use TLS, and check the hub's certificate."`
	// TLSCAFile: certificates (PEM) to trust; empty: those of the system.
	TLSCAFile string `name:"tls-ca-file" env:"CONNHUB_TLS_CA_FILE" placeholder:"FILE" group:"Hub" help:"Certificates (PEM) to trust, instead of the system's. Implies --tls."`
	// Timeout: of each answer.
	Timeout time.Duration `default:"10s" env:"CONNHUB_TIMEOUT" placeholder:"DURATION" group:"Hub" help:"Time limit of each answer. (${default})"`
	// JSON: print answers as JSON.
	JSON bool `name:"json" help:"Print the hub's answer as JSON."`
}

// Client is a connection to a hub's control port.
type Client struct {
	*grpc.ClientConn

	Flags *Flags // with which it was dialled

	dialer *reportingDialer
}

// DialHub prepares a client. The first call makes the connection. The caller closes the client.
func (f *Flags) DialHub() (*Client, error) {
	options := []grpc.DialOption{}
	transport, err := f.transportCredentials()
	if err != nil {
		return nil, err
	}
	if f.SecretFile != "" {
		secret, err := ReadSecret("--secret-file", f.SecretFile)
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithPerRPCCredentials(bearer(secret)))
	}
	c := &Client{Flags: f, dialer: &reportingDialer{}}
	options = append(options,
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(c.dialer.dialTCP),
		grpc.WithUserAgent("connhub-cli/"+build.Version()),
	)
	// The dialer looks names up itself: gRPC's resolver would hide the error of a look-up.
	c.ClientConn, err = grpc.NewClient("passthrough:///"+f.Addr, options...)
	if err != nil {
		return nil, terminal.UsageErrorf("--addr %s: %w", f.Addr, err)
	}
	return c, nil
}

func (f *Flags) transportCredentials() (credentials.TransportCredentials, error) {
	if f.TLSCAFile == "" && !f.TLS {
		return insecure.NewCredentials(), nil
	}
	c, err := trust.File("--tls-ca-file", f.TLSCAFile)
	if err != nil {
		return nil, terminal.UsageErrorf("%w", err)
	}
	return credentials.NewTLS(c), nil
}

// InvokeWithin makes a call with the time limit of --timeout, or with atLeast if that is longer. It
// returns errors in the words of WordError.
func (c *Client) InvokeWithin(
	ctx context.Context, atLeast time.Duration, do func(context.Context) error,
) error {
	limit := max(c.Flags.Timeout, atLeast)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := do(ctx); err != nil {
		return c.WordError(err, limit)
	}
	return nil
}

// WordError words err, which a call with this time limit has returned. The result wraps err.
func (c *Client) WordError(err error, limit time.Duration) error {
	return &callError{err: err, addr: c.Flags.Addr, limit: limit, dial: c.dialer.lastError()}
}

// WithClient makes a client, runs do with it and closes it.
func (f *Flags) WithClient(do func(*Client) error) error {
	c, err := f.DialHub()
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.Close())
}

// reportingDialer keeps the error of the last dial, because gRPC passes on only its text.
type reportingDialer struct {
	mu  sync.Mutex
	err error
}

func (d *reportingDialer) dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
	return conn, err
}

func (d *reportingDialer) lastError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// bearer is the secret of a backend, sent with each call. It is sent without TLS as well: a hub on
// the same machine or in the same mesh of sidecars is the common case, and the hub decides where it
// listens.
type bearer string

var _ credentials.PerRPCCredentials = bearer("")

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// ReadSecret returns the first secret of the file at path. The files of hubs have the same form.
// flag begins the error for a file that can't be used.
func ReadSecret(flag, path string) (string, error) {
	secret, err := auth.FirstSecret(path)
	switch {
	case err != nil:
		return "", terminal.UsageErrorf("%s: %w", flag, err)
	case secret == "":
		return "", terminal.UsageErrorf("%s: no secret in %s", flag, path)
	}
	return secret, nil
}
