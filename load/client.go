package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// smallBuffer is what an idle client reads into: a few small messages.
	smallBuffer = 512
	// largeBuffer is for a client that has more to read than that.
	largeBuffer = 64 << 10
	// pongTimeout is how long the answer to a ping may take to be written: servers read it as it comes.
	pongTimeout = 5 * time.Second
	// endTimeout is how long a server has to close the socket after the closing handshake.
	endTimeout = time.Second
)

// largeBuffers are lent while there is much to read.
var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// errEnded: the server sent a close frame, and got its answer.
var errEnded = errors.New("closed by the server")

// client is one open connection.
type client struct {
	// Static.
	crowd *Crowd
	shard *shard
	conn  net.Conn

	// Of the goroutine that reads.
	decoder decoder
	arrived time.Duration // of the bytes that are looked at
	last    uint32        // sequence

	leaving atomic.Bool // this side closes: its end is no loss

	writing sync.Mutex // one frame at a time
}

var _ receiver = (*client)(nil)

// run reads until the connection ends. first is what came with the server's answer.
func (c *client) run(first []byte) error {
	err := c.read(first)
	if errors.Is(err, errEnded) && c.conn.SetReadDeadline(time.Now().Add(endTimeout)) == nil {
		var end [1]byte
		_, _ = c.conn.Read(end[:]) // the server's end closes first (RFC 6455 §7.1.1)
	}
	_ = c.conn.Close()
	return err
}

func (c *client) read(first []byte) error {
	c.arrived = c.crowd.config.Stamp.Now()
	if err := c.decoder.feed(first, c); err != nil {
		return err
	}
	buffer := make([]byte, smallBuffer)
	for {
		n, err := c.conn.Read(buffer)
		c.arrived = c.crowd.config.Stamp.Now()
		if err := c.decoder.feed(buffer[:n], c); err != nil {
			return err
		}
		if n == len(buffer) && err == nil {
			err = c.drain()
		}
		if err != nil {
			return err
		}
	}
}

// drain reads with a large buffer until a read does not fill it.
func (c *client) drain() error {
	large, _ := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(large)
	for {
		n, err := c.conn.Read(large[:])
		c.arrived = c.crowd.config.Stamp.Now()
		if err := c.decoder.feed(large[:n], c); err != nil {
			return err
		}
		if err != nil || n < len(large) {
			return err
		}
	}
}

func (c *client) message(head []byte) {
	at, sequence, ok := c.crowd.config.Stamp.read(head)
	if !ok {
		c.shard.strange.Add(1)
		return
	}
	if sequence == Rehearsal {
		c.shard.rehearsed.Add(1)
		return
	}
	if c.crowd.config.Ordered && sequence <= c.last {
		c.shard.disordered.Add(1)
	}
	c.last = sequence
	c.shard.latency.Record(c.arrived - at)
	c.shard.messages.Add(1)
}

func (c *client) control(opcode byte, payload []byte) error {
	switch opcode {
	case opPing:
		c.shard.pings.Add(1)
		return c.write(opPong, payload, time.Now().Add(pongTimeout))
	case opClose:
		if !c.leaving.Load() { // or this is the answer
			_ = c.write(opClose, payload[:min(len(payload), 2)], time.Now().Add(pongTimeout)) // the server may be gone already
		}
		if len(payload) < 2 {
			return errEnded
		}
		return fmt.Errorf("%w: %d %s", errEnded, binary.BigEndian.Uint16(payload), payload[2:])
	}
	return nil
}

// write writes a control frame, masked with zeros: the mask protects proxies from scripts (RFC 6455 §10.3), and
// there is none here.
func (c *client) write(opcode byte, payload []byte, deadline time.Time) error {
	frame := make([]byte, 0, 6+maxControl)
	frame = append(frame, finBit|opcode, maskBit|byte(len(payload)), 0, 0, 0, 0)
	frame = append(frame, payload...)
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := c.conn.Write(frame)
	return err
}

// leave begins the closing handshake.
func (c *client) leave(deadline time.Time) {
	c.leaving.Store(true)
	const normal = "\x03\xe8" // 1000 (RFC 6455 §7.4.1)
	if c.write(opClose, []byte(normal), deadline) != nil {
		_ = c.conn.Close() // the reader ends too
	}
}

// lossWords says why a connection ended that this side did not end.
func lossWords(err error) string {
	if errors.Is(err, io.EOF) {
		return "the connection was cut"
	}
	return err.Error()
}
