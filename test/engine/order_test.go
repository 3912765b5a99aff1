//go:build bench && linux

package engine

import (
	"fmt"
	"time"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// order is a command from the hub's process to the load. A single field is set.
type order struct {
	Open *opening `json:",omitempty"`
	// tokens for the clients that open later, by the name that an opening has for them
	Tokens map[string][]string `json:",omitempty"`
	Drain  *drain              `json:",omitempty"`
	Call   *call               `json:",omitempty"`
	Speak  string              `json:",omitempty"` // each client sends this text
	// each client sends this text in two pieces, halfFrame apart
	Halve string `json:",omitempty"`
	Pause int    `json:",omitempty"` // the first so many clients stop reading
	// from now on a goroutine reads each client as soon as bytes arrive
	Watch bool `json:",omitempty"`
	Lags  bool `json:",omitempty"` // report the latencies since the last such order
	Close bool `json:",omitempty"` // all clients reset their sockets
	Leave bool `json:",omitempty"` // from now on clients leave that the hub closes
}

// opening connects clients.
type opening struct {
	Address string
	// of the request; {i} stands for the client's own number, in 11 digits, and {token} for the
	// next token of Tokens
	Path   string
	Tokens string // the name of the tokens that the clients use up
	Header string // further lines of the request, each with its end
	First  int    // the number of the first client
	Count  int
	TLS    bool
	Narrow int // the first so many clients have the smallest possible receive buffer
}

// drain waits until the reading clients have got so many bytes of messages since the last drain.
// More bytes are an error.
type drain struct {
	Total int64 // of all clients together
	Each  int64 // of each client; 0: clients may differ
}

// call sends as a backend does, and waits for the results.
type call struct {
	Address  string
	Unary    bool // by Send; otherwise by SendStream
	Count    int  // sends
	Batch    int  // of them in a request of the stream
	InFlight int  // requests without a result, of all streams together
	// above 0: sends a second; each is due at its time, and its stamp is that time
	Rate int
	// the streams share Count evenly, and take turns in the connections; 0: a single one
	Connections, Streams int
	Text                 string // the payload
	Namespace            string // empty: the default namespace
	Groups               []string
	// above 0: send to each of that many users in turn, by stride; 0: to Groups in turn; without
	// Groups: to everyone
	Users   int
	First   int  // the number of the first user
	Matched int  // the required count of each receipt; 0: any
	Stamp   bool // the payload begins with the time of the call
}

// fanIn returns the connections and streams of a call.
func (o *call) fanIn() fanIn { return fanIn{max(o.Connections, 1), max(o.Streams, 1)} }

// request returns the i-th send of a call.
func (o *call) request(i int) *controlv1.SendRequest {
	target := &controlv1.Target{}
	switch {
	case o.Users > 0:
		user := (i + 1) * stride % o.Users
		target.Users = []string{fmt.Sprintf("user-%011d", o.First+user)}
	case len(o.Groups) > 0:
		target.Groups = []string{o.Groups[i%len(o.Groups)]}
	default:
		target.Everyone = true
	}
	return &controlv1.SendRequest{
		Namespace: o.Namespace, Target: target,
		Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: o.Text}},
	}
}

// stamp writes the time into a request that is about to be sent. A request of a call with a rate
// has the time when it was due.
func (o *call) stamp(request *controlv1.SendRequest) {
	if o.Stamp && o.Rate == 0 {
		request.Message.Payload = &controlv1.Message_Text{
			Text: stampedAt(o.Text, clockTime(clockMonotonic)),
		}
	}
}

func (o *call) check(receipt *controlv1.Receipt) error {
	if o.Matched > 0 && int(receipt.GetMatched()) != o.Matched {
		return fmt.Errorf("receipt %v, want %d matched", receipt, o.Matched)
	}
	return nil
}

// report answers an order.
type report struct {
	Took time.Duration   // by the load's clock
	Lags []time.Duration `json:",omitempty"`
}
