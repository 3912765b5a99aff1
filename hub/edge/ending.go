package edge

import (
	"compress/flate"
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/netpoll"
)

// ending is how a link ends. The lock of the link's socket guards it.
//
// Problem: a link ends from two sides. On the writing side the hub closes it, coder/websocket
// answers a close or a fault of the client, or a write fails. On the reading side the client's
// bytes end. The sides end in any order, and the first reason counts.
//
// The states follow each other, and none comes back:
//
//	linkOpen      messages flow
//	linkDeciding  the hub has closed the link. The goodbye is written behind the outbox
//	linkDraining  nothing is taken from the outbox. Control frames that wait are written, a single
//	              close frame last. Reading may go on, for the client's close frame
//	linkParted    reading has ended and all is written: the socket was told to end
type ending struct {
	state     endState
	broken    bool    // a write failed: nothing is written any more
	reprieved bool    // limit was put off, because the client showed life when it was over
	parting   parting // how the socket ends once all is written
	ownCode   uint16  // of the close frame that coder/websocket wrote; 0: none

	// how is why the link ends, and final; nil: it is not known. As a pointer it takes 8 bytes of
	// an open link, not 24.
	how   *cause.CloseStatus
	limit *time.Timer // ends a close that takes too long; nil: none runs
}

// endState is how far a link's end has come.
type endState uint8

// The states.
const (
	linkOpen endState = iota
	linkDeciding
	linkDraining
	linkParted
)

// parting is how the socket ends after the last byte was written.
type parting uint8

const (
	// partLater: the read loop still waits for the client's close.
	partLater parting = iota
	// partHangUp closes the socket: the client has said goodbye, or is gone.
	partHangUp
	// partLinger closes the sending half only. The client may still be sending, and closing a
	// socket with unread bytes sends a reset. A reset can destroy the close frame before the client
	// reads it.
	partLinger
)

// closeByHub begins a close by the hub. It returns false if the link is ending already. A close
// without a code has no goodbye.
func (e *ending) closeByHub(how cause.CloseStatus) bool {
	if e.state != linkOpen {
		return false
	}
	e.state, e.how = linkDeciding, &how
	if how.Code == 0 {
		e.state = linkDraining
	}
	return true
}

// owesGoodbye reports whether the goodbye is to be written behind the outbox.
func (e *ending) owesGoodbye() bool { return e.state == linkDeciding }

// isDraining reports whether nothing is taken from the outbox any more.
func (e *ending) isDraining() bool { return e.state >= linkDraining }

// startDraining begins the state for a close frame. It returns false if there is one already, or no
// client to write to.
func (e *ending) startDraining() bool {
	if e.isDraining() {
		return false
	}
	e.state = linkDraining
	return true
}

// breakOff notes that a write failed.
func (e *ending) breakOff() {
	e.broken = true
	e.startDraining()
}

// endReading notes why the link ended, unless that is known, and how the socket ends. there tells
// that the client may still be there, sending. endReading reports whether to send the client a
// close frame.
func (e *ending) endReading(how cause.CloseStatus, there bool) (tell bool) {
	if e.how == nil {
		e.how = &how
	}
	e.parting = partHangUp
	if there {
		e.parting = partLinger
	}
	return e.startDraining() && there
}

// partSocket returns how to end the socket now, once. allWritten tells that no bytes wait.
func (e *ending) partSocket(allWritten bool) parting {
	if e.state != linkDraining || !allWritten || e.parting == partLater {
		return partLater
	}
	e.state = linkParted
	return e.parting
}

// putOff reports whether the limit of a close is put off: once, for a client that shows life.
func (e *ending) putOff(showsLife bool) bool {
	again := showsLife && !e.reprieved
	e.reprieved = e.reprieved || again
	return again
}

// Close says goodbye behind the connection's outbox. It ends the link when the client has answered,
// at the latest after CloseTimeout. See hub.Link.
func (l *link) Close(how cause.CloseStatus) {
	l.socket.Lock()
	if !l.ending.closeByHub(how) {
		l.socket.Unlock()
		return
	}
	if how.Code == 0 {
		l.socket.Unlock()
		l.AbortLink()
		return
	}
	l.limitCloseLocked()
	l.pumpOutputLocked()
	l.unlockAndPart()
}

// appendGoodbye appends the goodbye of the client's protocol, which stands in front of a close
// frame.
func (l *link) appendGoodbye(dst []byte, how cause.CloseStatus) []byte {
	if code := websocket.StatusCode(how.Code); code == websocket.StatusProtocolError ||
		code == websocket.StatusMessageTooBig {
		return dst // the WebSocket layer's matter, not the protocol's
	}
	return l.protocol.framed.AppendGoodbye(dst, how)
}

// queueCloseLocked queues a close frame, in front of all data. It starts CloseTimeout, in which the
// client may read and answer it.
func (l *link) queueCloseLocked(how cause.CloseStatus) {
	l.pending = frame.AppendClose(l.pending, how.Code, how.Reason)
	l.limitCloseLocked()
	l.pumpOutputLocked()
}

func (l *link) limitCloseLocked() {
	if l.ending.limit == nil {
		l.ending.limit = time.AfterFunc(l.server.config.CloseTimeout, l.giveUp)
	}
}

// giveUp ends a close that takes too long. A client with a sign of life that was not seen yet has a
// little longer, once.
func (l *link) giveUp() {
	stirs := l.socket.ShowsLife()
	l.socket.Lock()
	again := l.ending.putOff(stirs)
	if again {
		l.ending.limit.Reset(min(netpoll.Reprieve, l.server.config.CloseTimeout))
	}
	l.socket.Unlock()
	if !again {
		l.AbortLink()
	}
}

// isClosing reports whether the link is ending: a message that comes now is dropped.
func (l *link) isClosing() bool {
	l.socket.Lock()
	defer l.socket.Unlock()
	return l.ending.state != linkOpen
}

// decideClose decides how the link ended and returns it. It tells the client, unless that is done
// or the client is gone.
func (l *link) decideClose(err error) cause.CloseStatus {
	l.socket.Lock()
	defer l.unlockAndPart()
	how, there := l.decideLocked(err)
	l.limitCloseLocked()
	if l.ending.endReading(how, there) {
		l.pending = l.appendGoodbye(l.pending, how)
		l.queueCloseLocked(how)
	}
	return how
}

// decideLocked finds the single reason why the link ended. there reports whether the client may
// still be there, sending.
func (l *link) decideLocked(err error) (how cause.CloseStatus, there bool) {
	closed, byClient := errors.AsType[websocket.CloseError](err)
	late := l.readEnd == readLate || errors.Is(err, context.DeadlineExceeded)
	gone := l.readEnd == readGone && !late
	there = !byClient && !gone

	violation, isViolation := errors.AsType[*Violation](err)
	switch {
	case l.ending.how != nil:
		return *l.ending.how, there
	case isViolation:
		return violation.Close, there
	case byClient && !utf8.ValidString(closed.Reason):
		return badReason, there
	case byClient:
		return cause.CloseStatus{
			Cause: cause.Client, Code: uint16(closed.Code),
			Reason: closed.Reason,
		}, there
	case l.ending.ownCode != 0:
		return statusOfCode(l.ending.ownCode), there
	case late && l.mayHaveLostNetwork():
		return cause.Lost.CloseStatus(), false
	case late:
		return cause.SlowMessage.CloseStatus(), there
	case gone, l.ending.broken:
		return cause.Lost.CloseStatus(), false
	default:
		return statusOfBreach(err), there
	}
}

// markBrokenLocked notes that the socket takes no more bytes. The read loop finds out by itself,
// and may still find the client's close frame in the input. It has no longer than CloseTimeout for
// that.
func (l *link) markBrokenLocked() {
	l.ending.breakOff()
	l.pending = nil
	l.limitCloseLocked()
}

// unlockAndPart gives the socket's lock back. It ends the socket if the last byte is written and
// the read loop has decided how the link ended.
func (l *link) unlockAndPart() {
	p := l.ending.partSocket(l.left == nil)
	l.socket.Unlock()
	switch p {
	case partHangUp:
		l.socket.HangUp()
	case partLinger:
		l.socket.HalfClose()
	case partLater:
	}
}

// AbortLink ends the socket at once. It never blocks. See wheel.Link.
func (l *link) AbortLink() {
	l.socket.Lock()
	stuck := l.left != nil
	l.socket.Unlock()
	l.socket.Abort(stuck)
}

// statusOfBreach returns the close for an error at which coder/websocket gives up without a close
// frame: a frame without a mask, a length below zero, a message that it can't inflate.
func statusOfBreach(err error) cause.CloseStatus {
	if _, corrupt := errors.AsType[flate.CorruptInputError](err); corrupt {
		return notInflated
	}
	return cause.Protocol.CloseStatus()
}

// mayHaveLostNetwork reports whether a client that did not end its message may have lost its
// network, and may come back. That is a client of a resumable protocol that has been silent for
// half of MessageTimeout.
func (l *link) mayHaveLostNetwork() bool {
	_, resumable := l.protocol.framed.(hub.Numbered)
	silent := l.server.sinceStart() - l.socket.Heard()
	return resumable && silent >= l.server.config.MessageTimeout/2
}

// statusOfCode returns the close for a code that coder/websocket chose for a client's fault.
func statusOfCode(code uint16) cause.CloseStatus {
	if websocket.StatusCode(code) == websocket.StatusInvalidFramePayloadData {
		return cause.InvalidText.CloseStatus()
	}
	return cause.Protocol.CloseStatus()
}

// badReason closes a link whose client's close frame has a reason that is not UTF-8.
var badReason = cause.CloseStatus{
	Cause:  cause.InvalidText,
	Code:   cause.InvalidText.CloseStatus().Code,
	Reason: "close reason is not UTF-8",
}

// unreadRecords closes a link whose client makes TLS answer and does not read the answers.
var unreadRecords = cause.CloseStatus{
	Cause:  cause.Slow,
	Code:   cause.Slow.CloseStatus().Code,
	Reason: "too slow: " + netpoll.ErrUnreadRecords.Error(),
}
