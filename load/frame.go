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

	length16   = 126 // this length byte says that two bytes of length follow
	length64   = 127 // this one says eight
	maxControl = 125 // bytes of payload in a control frame (§5.5)
	maxHeader  = 10
)

var errFrame = errors.New("the server breaks the protocol")

// receiver gets what a decoder finds.
type receiver interface {
	// message is called at the end of each message with its first bytes, StampSize at most.
	message(head []byte)
	// control is called for each control frame. payload is valid during the call.
	control(opcode byte, payload []byte) error
}

// decoder takes a server's bytes apart, in whatever pieces they come. It keeps of a message only how it begins.
type decoder struct {
	header        [maxHeader]byte
	have          int
	inFrame       bool   // the header is complete
	left          uint64 // bytes of the frame's payload that have not come
	opcode        byte
	fin           bool
	inMessage     bool // a data frame without fin came
	head          [StampSize]byte
	headLen       int
	controlBytes  [maxControl]byte
	controlLength int
}

// feed takes the next bytes. After an error the decoder is not to be used.
func (d *decoder) feed(b []byte, r receiver) error {
	for {
		if !d.inFrame {
			used, err := d.readHeader(b)
			b = b[used:]
			if err != nil || !d.inFrame {
				return err
			}
		}
		n := min(uint64(len(b)), d.left)
		d.keep(b[:n])
		b = b[n:]
		if d.left -= n; d.left > 0 {
			return nil
		}
		if err := d.end(r); err != nil {
			return err
		}
	}
}

// readHeader takes what it needs of b for the header, and returns how much that was.
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
				return used, d.begin()
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

// begin is called with a whole header.
func (d *decoder) begin() error {
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
		return d.beginControl()
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

func (d *decoder) beginControl() error {
	d.controlLength = 0
	if !d.fin || d.left > maxControl || d.opcode > opPong {
		return fmt.Errorf("%w: control frame with opcode %d", errFrame, d.opcode)
	}
	return nil
}

// keep takes bytes of the payload.
func (d *decoder) keep(b []byte) {
	if d.opcode&controlBit != 0 {
		d.controlLength += copy(d.controlBytes[d.controlLength:], b)
		return
	}
	d.headLen += copy(d.head[d.headLen:], b)
}

// end is called at the end of a frame.
func (d *decoder) end(r receiver) error {
	d.inFrame = false
	if d.opcode&controlBit != 0 {
		return r.control(d.opcode, d.controlBytes[:d.controlLength])
	}
	if d.inMessage = !d.fin; d.fin {
		r.message(d.head[:d.headLen])
	}
	return nil
}
