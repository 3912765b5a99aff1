package node

import "errors"

// parts are the goroutines of a server: its listeners, the cluster, etcd. They belong to the
// goroutine of serveUntilDone.
type parts struct {
	ended   chan error // has room for each part
	running int
}

// maxParts is the most parts that a server has.
const maxParts = 5

func newParts() *parts { return &parts{ended: make(chan error, maxParts)} }

// startPart starts a part.
func (p *parts) startPart(part func() error) {
	p.running++
	go func() { p.ended <- part() }()
}

// noteEnd records the end of a part that the caller has received from p.ended.
func (p *parts) noteEnd(err error) error {
	p.running--
	return err
}

// awaitDone waits until done is closed. If a part fails earlier, it returns the error of the part.
// A part that ends without an error was taken down.
func (p *parts) awaitDone(done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		case err := <-p.ended:
			if p.noteEnd(err) != nil {
				return err
			}
		}
	}
}

// awaitAll waits until all parts have ended, and adds their errors to failed.
func (p *parts) awaitAll(failed error) error {
	for p.running > 0 {
		failed = errors.Join(failed, p.noteEnd(<-p.ended))
	}
	return failed
}
