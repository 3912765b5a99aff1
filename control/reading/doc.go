// Package reading answers the calls of the control API that only read: it gets and lists
// connections and groups, counts permissions, and describes the hubs.
//
// A Reader asks this hub, and at the same time every peer that may know a part of the answer. A
// peer answers with AnswerPeer. The Reader adds up the answers. A list is read page by page, also
// while items come and go: the pages of all hubs are merged in the order of hub.Cursor (page.go).
//
// A read waits for peers, at most for readTimeout and not beyond its context. Each peer has a
// goroutine while the read waits. The package has no lock. Errors are of hub and control/failure.
package reading
