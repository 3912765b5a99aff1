package framing

import (
	"bufio"
	"compress/flate"
	"errors"
	"io"
	"sync"
)

// messageTail is the end of each compressed message, which its sender leaves out: an empty block
// without its first bits (RFC 7692 §7.2.2).
const messageTail = "\x00\x00\xff\xff"

// inflateBuffer is the size in bytes of an Inflater's buffer for compressed bytes.
const inflateBuffer = 1 << 10

// ErrInflatedTooBig is the error of reads from a message with more bytes than it may have.
var ErrInflatedTooBig = errors.New("the inflated message is too big")

// Inflater reads a compressed message of a client (RFC 7692 §7.2.2). No message refers to an
// earlier message.
//
// A stream of deflate ends with a final block, but a message need not: a sender may use final
// blocks anywhere in a message (§7.2.1). So behind a final block a new stream begins. The message
// ends where its payload ends, and never before.
type Inflater struct {
	payload io.Reader // nil: the payload has been read
	tail    string    // of messageTail, what has not been read
	left    int64     // bytes that the message may still have

	// Static, and reset for each message.
	in      *bufio.Reader // reads payload and tail
	inflate io.ReadCloser
}

var inflaters = sync.Pool{New: func() any {
	i := &Inflater{in: bufio.NewReaderSize(nil, inflateBuffer)}
	i.inflate = flate.NewReader(i.in)
	return i
}}

// Inflate returns a reader of the message with that payload. It may have most bytes. The caller
// calls Recycle.
func Inflate(payload io.Reader, most int64) *Inflater {
	i := inflaters.Get().(*Inflater)
	i.payload, i.tail, i.left = payload, messageTail, most
	i.in.Reset((*tailedPayload)(i))
	i.beginStream()
	return i
}

// Recycle gives the memory of i to further messages. i must not be used after that.
func (i *Inflater) Recycle() {
	i.payload = nil
	i.in.Reset(nil)
	inflaters.Put(i)
}

func (i *Inflater) beginStream() {
	_ = i.inflate.(flate.Resetter).Reset(i.in, nil) // never fails
}

// Read reads the message. Errors of the payload are returned as they are. A payload that is no
// deflate is a flate.CorruptInputError.
func (i *Inflater) Read(b []byte) (int, error) {
	for {
		n, err := i.inflate.Read(b)
		if i.left -= int64(n); i.left < 0 {
			return n, ErrInflatedTooBig
		}
		switch {
		case errors.Is(err, io.EOF): // of the stream
			i.beginStream()
			err = nil
		case errors.Is(err, io.ErrUnexpectedEOF) && i.isRead():
			err = io.EOF
		}
		if n > 0 || err != nil {
			return n, err //nolint:wrapcheck // is the payload's
		}
	}
}

// isRead reports whether the message has been read to its end.
func (i *Inflater) isRead() bool { return i.payload == nil && i.tail == "" }

// tailedPayload is the payload of an Inflater, and messageTail behind it.
type tailedPayload Inflater

// Read reads the payload to its end, and then the tail.
func (p *tailedPayload) Read(b []byte) (int, error) {
	if p.payload != nil {
		n, err := p.payload.Read(b)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		if p.payload = nil; n > 0 {
			return n, nil
		}
	}
	n := copy(b, p.tail)
	if p.tail = p.tail[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
