package bench

import (
	"sync"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
)

// shapeFlags are the flags for the shape of a backend: how its sends reach the hub.
type shapeFlags struct {
	Unary              bool `group:"Load" help:"Send each message with a call of Send, and not over a SendStream."`
	Batch              int  `default:"1" placeholder:"N" group:"Load" help:"Sends in a request of a SendStream, at most: those that are due and may be in flight. (${default})"`
	Streams            int  `default:"1" placeholder:"N" group:"Load" help:"SendStreams that share the sends. (${default})"`
	BackendConnections int  `default:"1" placeholder:"N" group:"Load" help:"gRPC connections that share the SendStreams, or the calls of Send. (${default})"`
}

// validateShape checks the flags. inFlight is the limit of sends without a receipt, and limit names
// it.
func (f *shapeFlags) validateShape(inFlight int, limit string) error {
	switch {
	case f.Unary && f.Batch != 1:
		return terminal.UsageErrorf("--batch %d: has no effect with --unary", f.Batch)
	case f.Unary && f.Streams != 1:
		return terminal.UsageErrorf("--streams %d: has no effect with --unary", f.Streams)
	case f.Batch < 1 || f.Batch > dial.MaxBatchLines:
		return terminal.UsageErrorf("--batch %d: want 1 to %d", f.Batch, dial.MaxBatchLines)
	case f.Streams < 1 || f.Streams > inFlight:
		return terminal.UsageErrorf("--streams %d: want 1 to %d, %s", f.Streams, inFlight, limit)
	}
	most, what := f.Streams, "the number of --streams"
	if f.Unary {
		most, what = inFlight, limit
	}
	if f.BackendConnections < 1 || f.BackendConnections > most {
		return terminal.UsageErrorf("--backend-connections %d: want 1 to %d, %s",
			f.BackendConnections, most, what)
	}
	return nil
}

// dialBackends returns the connections of the backend. The first is the bench's own. The caller
// calls the returned function to close the others.
func (b *bench) dialBackends(count int) (hubs []*dial.Client, closeOthers func(), err error) {
	hubs = []*dial.Client{b.hub}
	closeOthers = func() {
		for _, h := range hubs[1:] {
			_ = h.Close()
		}
	}
	for len(hubs) < count {
		h, err := b.flags.DialHub()
		if err != nil {
			closeOthers()
			return nil, nil, err
		}
		hubs = append(hubs, h)
	}
	return hubs, closeOthers, nil
}

// shareOf returns the share of a part in a number that so many parts share.
func shareOf(number, part, parts int) int {
	share := number / parts
	if part < number%parts {
		share++
	}
	return share
}

// eachOf calls do for each number below n at the same time, and waits for all.
func eachOf(n int, do func(i int)) {
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { do(i) })
	}
	running.Wait()
}

// benchShape is the shape of a backend in a report.
type benchShape struct {
	API         string  `json:"api"`
	Rate        float64 `json:"target_sends_per_second"` // 0: as fast as receipts come back
	InFlight    int     `json:"in_flight"`
	Batch       int     `json:"max_sends_per_request"`
	Streams     int     `json:"streams"` // 0: calls of Send
	Connections int     `json:"backend_connections"`
}

// makeShape returns the shape of a run.
func (f *shapeFlags) makeShape(rate float64, inFlight int) benchShape {
	s := benchShape{
		API: "SendStream", Rate: rate, InFlight: inFlight, Batch: f.Batch, Streams: f.Streams,
		Connections: f.BackendConnections,
	}
	if f.Unary {
		s.API, s.Streams = "Send", 0
	}
	return s
}

// paceWords describe when sends are sent.
func (s *benchShape) paceWords() string {
	if s.Rate > 0 {
		return ratePer(s.Rate) + " wanted"
	}
	return groupDigits(s.InFlight) + " in flight"
}

// shapeWords describe how sends are sent.
func (s *benchShape) shapeWords() []string {
	parts := []string{"calls of Send"}
	if s.Streams > 0 {
		parts[0] = terminal.CountNoun(s.Streams, "SendStream")
	}
	if s.Connections > 1 {
		parts = append(parts, terminal.CountNoun(s.Connections, "connection"))
	}
	switch {
	case s.Streams == 0:
	case s.Batch == 1:
		parts = append(parts, "1 send a request")
	default:
		parts = append(parts, "up to "+groupDigits(s.Batch)+" sends a request")
	}
	return parts
}
