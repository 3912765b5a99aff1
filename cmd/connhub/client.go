package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/auth"
)

// clientFlags are common to all commands that call a hub.
type clientFlags struct {
	Addr       string        `default:"127.0.0.1:9090" env:"CONNHUB_ADDR" placeholder:"HOST:PORT" group:"Hub" help:"Control address of any hub. (${default})"`
	Namespace  string        `short:"n" default:"default" env:"CONNHUB_NAMESPACE" placeholder:"NAME" group:"Hub" help:"Namespace. (${default})"`
	SecretFile string        `env:"CONNHUB_SECRET_FILE" placeholder:"FILE" group:"Hub" help:"File with the secret of a backend; the first secret is used."`
	TLS        bool          `name:"tls" env:"CONNHUB_TLS" group:"Hub" help:"Use TLS, and check the hub's certificate."`
	TLSCAFile  string        `name:"tls-ca-file" env:"CONNHUB_TLS_CA_FILE" placeholder:"FILE" group:"Hub" help:"Certificates (PEM) to trust, instead of the system's. Implies --tls."`
	Timeout    time.Duration `default:"10s" env:"CONNHUB_TIMEOUT" placeholder:"DURATION" group:"Hub" help:"Time limit of each answer. (${default})"`
	JSON       bool          `name:"json" help:"Print the hub's answer as JSON."`
}

// client is a connection to a hub's control port.
type client struct {
	*grpc.ClientConn

	flags  *clientFlags
	dialer *reportingDialer
}

// dialHub prepares a client. The first call makes the connection.
func (f *clientFlags) dialHub() (*client, error) {
	options := []grpc.DialOption{}
	transport, err := f.transportCredentials()
	if err != nil {
		return nil, err
	}
	if f.SecretFile != "" {
		secret, err := readSecret(f.SecretFile)
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithPerRPCCredentials(bearer(secret)))
	}
	c := &client{flags: f, dialer: &reportingDialer{}}
	options = append(options,
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(c.dialer.dialTCP),
		grpc.WithUserAgent("connhub-cli/"+buildVersion()),
	)
	// The dialer looks names up itself: gRPC's resolver would keep why a name is wrong to itself.
	c.ClientConn, err = grpc.NewClient("passthrough:///"+f.Addr, options...)
	if err != nil {
		return nil, usageErrorf("--addr %s: %w", f.Addr, err)
	}
	return c, nil
}

func (f *clientFlags) transportCredentials() (credentials.TransportCredentials, error) {
	if f.TLSCAFile == "" && !f.TLS {
		return insecure.NewCredentials(), nil
	}
	c, err := trustFile("--tls-ca-file", f.TLSCAFile)
	if err != nil {
		return nil, usageErrorf("%w", err)
	}
	return credentials.NewTLS(c), nil
}

// invokeWithin makes a call with the time limit of --timeout, or with atLeast if that is longer. It
// turns errors into a callError.
func (c *client) invokeWithin(ctx context.Context, atLeast time.Duration, do func(context.Context) error) error {
	limit := max(c.flags.Timeout, atLeast)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := do(ctx); err != nil {
		return c.callError(err, limit)
	}
	return nil
}

// callError words err, which a call with this time limit has returned.
func (c *client) callError(err error, limit time.Duration) *callError {
	return &callError{err: err, addr: c.flags.Addr, limit: limit, dial: c.dialer.lastError()}
}

// withClient makes a client, runs do with it and closes it.
func (f *clientFlags) withClient(do func(*client) error) error {
	c, err := f.dialHub()
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.Close())
}

// askAndShow runs a command that asks a hub once and prints the answer: with show, or with --json
// as JSON.
func askAndShow[R proto.Message](ctx context.Context, t *terminal, f *clientFlags, ask func(context.Context, *client) (R, error), show func(R)) error {
	return f.withClient(func(hub *client) error {
		var answer R
		err := hub.invokeWithin(ctx, 0, func(ctx context.Context) (err error) {
			answer, err = ask(ctx, hub)
			return err
		})
		switch {
		case err != nil:
			return err
		case f.JSON:
			return t.printJSON(answer)
		}
		show(answer)
		return nil
	})
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

// readSecret returns the first secret of a file. The files of hubs have the same form.
func readSecret(path string) (string, error) {
	secret, err := auth.FirstSecret(path)
	switch {
	case err != nil:
		return "", usageErrorf("--secret-file: %w", err)
	case secret == "":
		return "", usageErrorf("--secret-file: no secret in %s", path)
	}
	return secret, nil
}

// printJSON prints an answer as protobuf JSON, zeros included. It lays the text out again, because
// protojson varies its blanks on purpose.
func (t *terminal) printJSON(m proto.Message) error {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(t.stdout)
	return err
}
