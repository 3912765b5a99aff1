//go:build bench && linux

package engine

import "time"

// order is what the hub's process has the load do. One field is set.
type order struct {
	Open  *opening `json:",omitempty"`
	Drain *drain   `json:",omitempty"`
	Call  *call    `json:",omitempty"`
	Speak string   `json:",omitempty"` // each client sends this text
	Halve string   `json:",omitempty"` // each client sends this text in two pieces, with time in between
	Pause int      `json:",omitempty"` // that many clients, the first ones, stop reading
	Watch bool     `json:",omitempty"` // all clients are read at once from now on
	Lags  bool     `json:",omitempty"` // tell how long the messages since the last time were under way
	Close bool     `json:",omitempty"` // all clients reset their sockets
}

// opening brings clients in.
type opening struct {
	Address string
	Path    string // of the request; {i} stands for a number of 11 digits, the client's own
	Header  string // of the request, besides: whole lines
	First   int    // the number of the first one
	Count   int
	TLS     bool
	Narrow  int // that many, the first ones, have the smallest receive buffer there is
}

// drain waits until the clients that read have got so many bytes of messages since the last drain, and no more.
type drain struct {
	Total int64 // all together
	Each  int64 // every one; 0: it is not the same for all
}

// call sends as a backend does, and waits for the results.
type call struct {
	Address   string
	Unary     bool   // by Send; otherwise by SendStream
	Count     int    // sends
	Batch     int    // of them in a request of the stream
	InFlight  int    // requests without a result
	Text      string // the payload
	Namespace string // empty: the default one
	Groups    []string
	Users     int  // send to that many users in turn, in an order that jumps about; 0: to Groups in turn, none: to everyone
	First     int  // the number of the first one of Users
	Matched   int  // what each receipt must say; 0: anything
	Stamp     bool // the payload begins with the time of the call
}

// report answers an order.
type report struct {
	Took time.Duration   // as the load saw it
	Lags []time.Duration `json:",omitempty"`
}
