package hub

import (
	"context"
	"maps"
	"slices"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/chunks"
)

// Leaving reports whether BeginShutdown was called.
func (h *Hub) Leaving() bool { return h.closing.Load() != 0 }

// BeginShutdown has the hub refuse every new client and send with ErrShuttingDown from now on.
// Shutdown will close the connections for the cause; only the first call counts. It does not wait.
func (h *Hub) BeginShutdown(cause cause.Cause) { h.closing.CompareAndSwap(0, uint32(cause)) }

// countLinks counts a link that was bound, or, with -1, a link that was unbound.
func (h *Hub) countLinks(more int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links += more
	h.signalIdleLocked()
}

// signalIdleLocked tells Shutdown when the last link is gone. h.idle is closed once.
func (h *Hub) signalIdleLocked() {
	if h.Leaving() && h.links == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// listNamespaces returns the namespaces that have a connection now.
func (h *Hub) listNamespaces() []*namespace {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Collect(maps.Values(h.namespaces))
}

// Shutdown refuses new clients and sends, and closes every connection: for cause.Shutdown, unless
// BeginShutdown named a different cause. It waits until their links are gone, or ctx is done. Then
// it returns the error of ctx.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	h.BeginShutdown(cause.Shutdown)
	idle := h.idle
	h.signalIdleLocked()
	h.mu.Unlock()

	// With a few workers: each close writes a frame.
	plain, resumable := h.DrainOrder()
	chunks.HandleAll(append(plain, resumable...), func(some []*Connection) {
		for i := 0; i < len(some) && ctx.Err() == nil; i++ {
			some[i].Close(cause.Cause(h.closing.Load()).CloseStatus())
		}
	})
	if err := ctx.Err(); err != nil || idle == nil {
		return err
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// DrainOrder returns the connections that are open now, in the order in which a hub that leaves
// closes them: those that a client can resume come last, because their state ends with this hub.
// They are those that Moves can move. One that is still being connected can't yet. One that is
// sealed is not listed.
func (h *Hub) DrainOrder() (plain, resumable []*Connection) {
	for _, ns := range h.listNamespaces() {
		ns.connections.eachValue(func(c *Connection) {
			if c.numbering == nil {
				plain = append(plain, c)
			} else {
				resumable = append(resumable, c)
			}
		})
	}
	return plain, resumable
}
