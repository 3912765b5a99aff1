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
	// smallBuffer is the read buffer of an idle client, in bytes: a few small messages.
	smallBuffer = 512
	// largeBuffer is the read buffer of a client with more to read, in bytes.
	largeBuffer = 64 << 10
	// pongTimeout bounds the write of a ping's answer. It is generous: servers read all the time.
	pongTimeout = 5 * time.Second
	// endTimeout bounds the time in which a server closes the socket after the closing handshake.
	endTimeout = time.Second
)

// largeBuffers lends buffers to clients with much to read.
var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// errEnded means that the server sent a close frame and got its answer.
var errEnded = errors.New("closed by the server")

// client is an open connection.
type client struct {
	// Static.
	crowd *Crowd
	shard *shard
	conn  net.Conn

	// Owned by the goroutine that reads.
	decoder decoder
	arrived time.Duration // time of the latest read, by the stamp's clock
	last    uint32        // sequence of the latest message

	leaving atomic.Bool // set before this side closes: such an end is no loss

	writing sync.Mutex // held during the write of a frame
}

var _ receiver = (*client)(nil)

// readUntilEnd reads until the connection ends, closes it, and returns the reason. first holds the
// bytes that the server sent behind its answer to the handshake.
func (c *client) readUntilEnd(first []byte) error {
	err := c.readFrames(first)
	if errors.Is(err, errEnded) && c.conn.SetReadDeadline(time.Now().Add(endTimeout)) == nil {
		var end [1]byte
		_, _ = c.conn.Read(end[:]) // the server's end closes first (RFC 6455 §7.1.1)
	}
	_ = c.conn.Close()
	return err
}

// readFrames decodes first and then all that the server sends. It returns an error at the end of
// the connection.
func (c *client) readFrames(first []byte) error {
	c.arrived = c.crowd.config.Stamp.Now()
	if err := c.decoder.feedBytes(first, c); err != nil {
		return err
	}
	buffer := make([]byte, smallBuffer)
	for {
		n, err := c.conn.Read(buffer)
		c.arrived = c.crowd.config.Stamp.Now()
		if err := c.decoder.feedBytes(buffer[:n], c); err != nil {
			return err
		}
		if n == len(buffer) && err == nil {
			err = c.drainSocket()
		}
		if err != nil {
			return err
		}
	}
}

// drainSocket reads with a large buffer until a read does not fill it.
func (c *client) drainSocket() error {
	large, _ := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(large)
	for {
		n, err := c.conn.Read(large[:])
		c.arrived = c.crowd.config.Stamp.Now()
		if err := c.decoder.feedBytes(large[:n], c); err != nil {
			return err
		}
		if err != nil || n < len(large) {
			return err
		}
	}
}

// handleMessage counts a message, and records its latency if it is measured.
func (c *client) handleMessage(head []byte) {
	at, sequence, ok := c.crowd.config.Stamp.parseStamp(head)
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

// handleControl answers pings and close frames. It returns an errEnded for a close frame.
func (c *client) handleControl(opcode byte, payload []byte) error {
	switch opcode {
	case opPing:
		c.shard.pings.Add(1)
		return c.writeControl(opPong, payload, time.Now().Add(pongTimeout))
	case opClose:
		if !c.leaving.Load() { // else the frame is the answer to this side's close frame
			deadline := time.Now().Add(pongTimeout)
			// The answer is the status code alone. It may fail: the server may be gone already.
			_ = c.writeControl(opClose, payload[:min(len(payload), 2)], deadline)
		}
		if len(payload) < 2 {
			return errEnded
		}
		return fmt.Errorf("%w: %d %s", errEnded, binary.BigEndian.Uint16(payload), payload[2:])
	}
	return nil
}

// writeControl writes a control frame, masked with zeros. A mask protects proxies from scripts
// (RFC 6455 §10.3), and this crowd has neither.
func (c *client) writeControl(opcode byte, payload []byte, deadline time.Time) error {
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

// startClosing sends a close frame. The reader ends when the server answers.
func (c *client) startClosing(deadline time.Time) {
	c.leaving.Store(true)
	const normal = "\x03\xe8" // 1000 (RFC 6455 §7.4.1)
	if c.writeControl(opClose, []byte(normal), deadline) != nil {
		_ = c.conn.Close() // ends the reader too
	}
}

// describeLoss returns the reason for the end of a connection that this side did not close.
func describeLoss(err error) string {
	if errors.Is(err, io.EOF) {
		return "the connection was cut"
	}
	return err.Error()
}
