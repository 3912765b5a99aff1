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

// textBytes is the size of a message.
const textBytes = 128

// text is what all messages are.
var text = bytes.Repeat([]byte("x"), textBytes)

// textFrame is what a plain client gets of it.
var textFrame = frame.Append(nil, frame.Text, text)

// bed is a hub with both its doors, and the load that comes to it.
type bed struct {
	hub      *hub.Hub
	sockets  *keeper // nil: none are kept
	clients  string  // address of the clients' door
	backends string  // address of the backends' door
	load     *child
	frame    int // bytes that a client gets for a text
}

// bedConfig is what differs between beds.
type bedConfig struct {
	plain     edge.Protocol // of the clients
	frame     int           // bytes of a text in that protocol
	keep      bool          // the reference writes to the same sockets
	heartbeat time.Duration // 0: none while it is measured
	tokens    *auth.Tokens  // of clients; nil: they have none
	publicURL url.URL       // that tokens are for
	hub       func(*hub.Config)
	edge      func(*edge.Config)
	tls       bool // clients come under TLS
}

// reference is the bed of all figures that have one.
func reference() bedConfig {
	return bedConfig{
		plain: plain.Protocol{}, frame: len(textFrame), keep: true,
		publicURL: url.URL{Scheme: "http", Host: "hub.example"},
	}
}

// newBed opens one, in the hub's process.
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
	server, err := control.New(control.Config{Hub: b.hub, Secrets: secrets, Metrics: registry, CallBytes: control.DefaultConfig().CallBytes})
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

// secretFile writes a secret to a file of that folder.
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

// end looks whether the hub is still in order, and ends the load.
func (b *bed) end() error { return errors.Join(b.hub.CheckInvariants(), b.load.stop()) }

// order has the load do something, and waits until it has.
func (b *bed) order(o order) (report, error) {
	var r report
	err := b.load.ask(o, &r)
	return r, err
}

// shared is the group of everybody.
const shared = "shared"

// clientPath is the request of a client that is user-{i}, 16 bytes, in the group of everybody and in others.
func clientPath(groups ...string) string {
	return "/ws?user=user-{i}&group=" + strings.Join(append(groups, shared), "&group=")
}

// open brings clients in, and waits until all are attached.
func (b *bed) open(o opening) error {
	if o.Address == "" {
		o.Address = b.clients
	}
	if _, err := b.order(order{Open: &o}); err != nil {
		return err
	}
	// One message to each, which is written when it is attached.
	if _, err := b.deliver(shared, text); err != nil {
		return err
	}
	return b.drain(b.hub.Len(), b.frame)
}

// deliver sends a text to a group, from within the hub's process.
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

// drain waits until each of the clients has got that many bytes.
func (b *bed) drain(clients, each int) error {
	_, err := b.order(order{Drain: &drain{Total: int64(clients * each), Each: int64(each)}})
	return err
}

// raw is the reference: one write of these bytes to each client.
func (b *bed) raw(clients int, bytes []byte) variant {
	return variant{measured: func() error {
		if err := b.sockets.write(bytes); err != nil {
			return err
		}
		return b.drain(clients, len(bytes))
	}}
}

// calling is a backend's call, after which each client has that many bytes.
func (b *bed) calling(c call, clients, each int) variant {
	return variant{measured: func() error {
		if _, err := b.order(order{Call: &c}); err != nil {
			return err
		}
		return b.drain(clients, each)
	}}
}
