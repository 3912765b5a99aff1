//go:build bench && linux

package engine

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/plain"
)

// textBytes is the size of a message, in bytes.
const textBytes = 128

// text is the payload of all messages.
var text = bytes.Repeat([]byte("x"), textBytes)

// textFrame is the frame with text that a plain client gets.
var textFrame = frame.Append(nil, frame.Text, text)

// bed is a hub with both its doors, and the load's process.
type bed struct {
	hub      *hub.Hub
	sockets  *keeper // nil: the bed keeps no sockets
	clients  string  // address of the clients' door
	backends string  // address of the backends' door
	load     *child
	frame    int // bytes that a client gets for text
}

// bedConfig has the differences between beds.
type bedConfig struct {
	plain     edge.Protocol // of the clients
	frame     int           // bytes of text in that protocol
	keep      bool          // the reference writes to the same sockets
	heartbeat time.Duration // 0: no heartbeat during the measurement
	tokens    *auth.Tokens  // of clients; nil: clients have no tokens
	publicURL url.URL       // the audience of tokens
	hub       func(*hub.Config)
	edge      func(*edge.Config)
	tls       bool // clients use TLS
}

// reference configures the bed of all figures with a reference.
func reference() bedConfig {
	return bedConfig{
		plain: plain.Protocol{}, frame: len(textFrame), keep: true,
		publicURL: url.URL{Scheme: "http", Host: "hub.example"},
	}
}

// newBed opens a bed. It runs in the hub's process.
func newBed(c bedConfig) (*bed, error) {
	b := &bed{frame: c.frame}
	registry := prometheus.NewRegistry()
	hubConfig := hub.DefaultConfig()
	hubConfig.ID, hubConfig.Metrics = hub.NewID(), registry
	if c.hub != nil {
		c.hub(&hubConfig)
	}
	var err error
	if b.hub, err = hub.New(hubConfig); err != nil {
		return nil, err
	}
	if err := b.serveClients(c, registry); err != nil {
		return nil, err
	}
	if err := b.serveBackends(registry); err != nil {
		return nil, err
	}
	b.load, err = startChild(loadRole, loadCore)
	return b, err
}

func (b *bed) serveClients(c bedConfig, registry prometheus.Registerer) error {
	config := edge.DefaultConfig()
	config.Hub, config.Anonymous, config.Plain, config.Metrics = b.hub, true, c.plain, registry
	config.Tokens, config.PublicURL = c.tokens, &c.publicURL
	config.PingInterval = time.Hour
	if c.heartbeat > 0 {
		config.PingInterval = c.heartbeat
	}
	if c.edge != nil {
		c.edge(&config)
	}
	server, err := edge.New(config)
	if err != nil {
		return err
	}
	l, err := listen()
	if err != nil {
		return err
	}
	b.clients = l.Addr().String()
	if c.keep {
		b.sockets = &keeper{Listener: l}
		l = b.sockets
	}
	if c.tls {
		secure, err := serverTLS()
		if err != nil {
			return err
		}
		l = edge.NewTLSListener(l, secure)
	}
	serve(server, l)
	return nil
}

func (b *bed) serveBackends(registry prometheus.Registerer) error {
	dir, err := os.MkdirTemp("", "connhub-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, err := secretFile(dir, secret)
	if err != nil {
		return err
	}
	secrets, err := auth.LoadSecrets(map[auth.Role][]string{auth.RoleBackend: {file}})
	if err != nil {
		return err
	}
	server, err := control.New(control.Config{
		Hub:     b.hub,
		Secrets: secrets, Metrics: registry, CallBytes: control.DefaultConfig().CallBytes,
	})
	if err != nil {
		return err
	}
	l, err := listen()
	if err != nil {
		return err
	}
	b.backends = l.Addr().String()
	serve(server, l)
	return nil
}

// secretFile writes a secret to a file in dir.
func secretFile(dir, secret string) (string, error) {
	path := filepath.Join(dir, "secret")
	return path, os.WriteFile(path, []byte(secret+"\n"), 0o600)
}

// serve serves until the process ends.
func serve(server interface{ Serve(net.Listener) error }, l net.Listener) {
	go func() {
		if err := server.Serve(l); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}()
}

// end checks the hub's invariants, and ends the load's process.
func (b *bed) end() error { return errors.Join(b.hub.CheckInvariants(), b.load.stop()) }

// order sends an order to the load, and waits until the load has carried it out.
func (b *bed) order(o order) (report, error) {
	var r report
	err := b.load.ask(o, &r)
	return r, err
}

// shared is the group of all clients.
const shared = "shared"

// clientPath returns the request of a client. Its user is user-{i}, 16 bytes. It is in the group
// shared and in groups.
func clientPath(groups ...string) string {
	return "/ws?user=user-{i}&group=" + strings.Join(append(groups, shared), "&group=")
}

// open connects clients, and waits until all are attached.
func (b *bed) open(o opening) error {
	if o.Address == "" {
		o.Address = b.clients
	}
	if _, err := b.order(order{Open: &o}); err != nil {
		return err
	}
	// A client gets the message only after it is attached.
	if _, err := b.deliver(shared, text); err != nil {
		return err
	}
	return b.drain(b.hub.Len(), b.frame)
}

// deliver sends a message to a group, from within the hub's process.
func (b *bed) deliver(group string, payload []byte) (hub.Receipt, error) {
	d, err := b.hub.Deliver(background, &hub.Send{
		Message: &hub.Message{Namespace: hub.DefaultNamespace, Kind: hub.Text, Payload: payload},
		Target:  hub.Target{Groups: []string{group}},
		Wait:    hub.WaitQueued,
	})
	if err != nil {
		return hub.Receipt{}, err
	}
	return d.Receipt(), nil
}

// drain waits until each client has got that many bytes.
func (b *bed) drain(clients, each int) error {
	_, err := b.order(order{Drain: &drain{Total: int64(clients * each), Each: int64(each)}})
	return err
}

// raw is the reference: a write of these bytes to each client.
func (b *bed) raw(clients int, bytes []byte) variant {
	return variant{measured: func() error {
		if err := b.sockets.write(bytes); err != nil {
			return err
		}
		return b.drain(clients, len(bytes))
	}}
}

// calling is a call of a backend. After it each client has got that many bytes.
func (b *bed) calling(c call, clients, each int) variant {
	return variant{measured: func() error {
		if _, err := b.order(order{Call: &c}); err != nil {
			return err
		}
		return b.drain(clients, each)
	}}
}
