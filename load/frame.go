package load

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Opcodes and bits of frames (RFC 6455 §5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	finBit      = 0x80
	reservedBit = 0x70
	opcodeBits  = 0x0F
	maskBit     = 0x80
	controlBit  = 0x08

	length16   = 126 // value of the length byte when two bytes of length follow
	length64   = 127 // value of the length byte when eight bytes of length follow
	maxControl = 125 // bytes of payload in a control frame (§5.5)
	maxHeader  = 10  // bytes of a header without a mask
)

// errFrame means that the server broke the framing rules of RFC 6455 §5.
var errFrame = errors.New("the server breaks the protocol")

// receiver handles the messages and control frames that a decoder finds.
type receiver interface {
	// handleMessage is called at the end of each message with its first bytes, StampSize at most.
	// head is valid during the call.
	handleMessage(head []byte)
	// handleControl is called for each control frame. An error ends the decoding. payload is valid
	// during the call.
	handleControl(opcode byte, payload []byte) error
}

// decoder parses the frames of a server. The bytes may arrive in pieces of any size. Of a message
// it keeps only the first StampSize bytes.
type decoder struct {
	header        [maxHeader]byte
	have          int    // bytes in header
	inFrame       bool   // the header is complete
	left          uint64 // bytes of the frame's payload that have not arrived
	opcode        byte   // of the frame
	fin           bool   // the frame ends its message
	inMessage     bool   // a data frame without fin has arrived
	head          [StampSize]byte
	headLen       int // bytes in head
	controlBytes  [maxControl]byte
	controlLength int // bytes in controlBytes
}

// feedBytes decodes the next bytes. The decoder must not be used after an error.
func (d *decoder) feedBytes(b []byte, r receiver) error {
	for {
		if !d.inFrame {
			used, err := d.readHeader(b)
			b = b[used:]
			if err != nil || !d.inFrame {
				return err
			}
		}
		n := min(uint64(len(b)), d.left)
		d.keepPayload(b[:n])
		b = b[n:]
		if d.left -= n; d.left > 0 {
			return nil
		}
		if err := d.finishFrame(r); err != nil {
			return err
		}
	}
}

// readHeader copies bytes of b to the header until the header is complete or b is empty. It returns
// the number of copied bytes.
func (d *decoder) readHeader(b []byte) (used int, err error) {
	for {
		need := 2
		if d.have >= 2 {
			switch d.header[1] &^ maskBit {
			case length16:
				need += 2
			case length64:
				need += 8
			}
			if d.have == need {
				return used, d.startFrame()
			}
		}
		n := copy(d.header[d.have:need], b[used:])
		d.have += n
		used += n
		if d.have < need {
			return used, nil
		}
	}
}

// startFrame checks a complete header and prepares for the payload.
func (d *decoder) startFrame() error {
	d.opcode, d.fin = d.header[0]&opcodeBits, d.header[0]&finBit != 0
	switch length := d.header[1] &^ maskBit; length {
	case length16:
		d.left = uint64(binary.BigEndian.Uint16(d.header[2:]))
	case length64:
		d.left = binary.BigEndian.Uint64(d.header[2:])
	default:
		d.left = uint64(length)
	}
	d.have, d.inFrame = 0, true
	switch {
	case d.header[0]&reservedBit != 0:
		return fmt.Errorf("%w: a reserved bit is set", errFrame)
	case d.header[1]&maskBit != 0:
		return fmt.Errorf("%w: its frame is masked", errFrame)
	case d.opcode&controlBit != 0:
		return d.startControl()
	case d.opcode > opBinary:
		return fmt.Errorf("%w: opcode %d", errFrame, d.opcode)
	case d.inMessage != (d.opcode == opContinuation):
		return fmt.Errorf("%w: its fragments are out of order", errFrame)
	}
	if d.opcode != opContinuation {
		d.headLen = 0
	}
	return nil
}

// startControl checks the header of a control frame (RFC 6455 §5.5).
func (d *decoder) startControl() error {
	d.controlLength = 0
	if !d.fin || d.left > maxControl || d.opcode > opPong {
		return fmt.Errorf("%w: control frame with opcode %d", errFrame, d.opcode)
	}
	return nil
}

// keepPayload keeps the bytes of a control frame, or the first bytes of a message.
func (d *decoder) keepPayload(b []byte) {
	if d.opcode&controlBit != 0 {
		d.controlLength += copy(d.controlBytes[d.controlLength:], b)
		return
	}
	d.headLen += copy(d.head[d.headLen:], b)
}

// finishFrame hands a complete control frame or message to r.
func (d *decoder) finishFrame(r receiver) error {
	d.inFrame = false
	if d.opcode&controlBit != 0 {
		return r.handleControl(d.opcode, d.controlBytes[:d.controlLength])
	}
	if d.inMessage = !d.fin; d.fin {
		r.handleMessage(d.head[:d.headLen])
	}
	return nil
}
