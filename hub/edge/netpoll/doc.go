// Package netpoll carries the bytes of many silent clients, without a goroutine for each.
//
// # Purpose
//
// A Socket takes over a client's TCP connection, or TLS on it. It knows no message and no protocol:
// its Owner cuts messages out of the input, and makes the output. On Linux the socket is parked. A
// single poller waits for all parked sockets. Elsewhere, and with Config.Blocking, goroutines wait.
// The Owner sees no difference.
//
// # Life of a socket
//
//	Open        takes over the connection                 parked_linux.go, blocking.go
//	Start       runs Owner.ServeReadable
//	  Fill      input, while there is some                socket.go
//	  Wait      for the rest of a message
//	  ErrIdle   no goroutine until there is input
//	TryWriteLocked, AwaitRoomLocked, Owner.ServeWritable  output, as far as the socket takes it
//	HalfClose, HangUp, Abort                              the end that the client sees
//	Close       gives the descriptor back
//
// Conn and Sealed are the sockets below net/http and crypto/tls before Open. They come from
// NewListener and NewTLSListener.
//
// # Goroutines
//
//   - Parked socket: a goroutine while it reads, and a goroutine while it writes bytes that the
//     socket did not take at once. A silent socket has none.
//   - Blocking socket: a goroutine that reads. A second goroutine, its writer, runs while there are
//     bytes that the socket does not take at once. Without a raw socket (TLS, a pipe) a write can't
//     tell, so the writer runs while there are any bytes to write.
//   - Poller: a goroutine from the first parked socket to Poller.Close.
//
// Config.Goroutines counts all but the last.
//
// # Deadlines
//
// A process that was stopped or starved finds deadlines expired that its clients have kept. So the
// package reads all arrived bytes, or writes the bytes for which there is room, before it reports
// that a deadline is over. A client whose bytes or room were there has Reprieve more, once.
//
// # Locking
//
// The lock of a Socket is the lock of its output, and of its Owner's state. It is never held during
// a write that can block. Order: Socket, then the poller's own.
//
// # Backpressure
//
// The kernel keeps at most some 64 KiB that it has not sent to a client, and 256 KiB that were not
// read of it. A parked socket keeps at most an incomplete beginning of 4 KiB while it has no
// goroutine.
//
// # Errors
//
// Reads return ErrIdle, os.ErrDeadlineExceeded, ErrUnreadRecords, or the error of the socket.
package netpoll
