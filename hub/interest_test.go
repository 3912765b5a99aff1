package hub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/cause"
)

// references is an Interest that counts. While held is not nil, nothing is in force.
type references struct {
	mu     sync.Mutex
	counts map[Key]int
	held   chan struct{}
	asked  []Key // the keys of the last ThenInForce
}

var _ Interest = (*references)(nil)

func newReferences() *references { return &references{counts: make(map[Key]int)} }

func (r *references) Add(k Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[k]++
}

func (r *references) Remove(k Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts[k]--; r.counts[k] == 0 {
		delete(r.counts, k)
	}
}

func (r *references) ThenInForce(keys []Key, done func(error)) (forget func()) {
	r.mu.Lock()
	held := r.held
	r.asked = keys
	for _, k := range keys {
		if r.counts[k] <= 0 && held == nil {
			r.counts[Key{Name: fmt.Sprint("asked for without a reference: ", k)}]++
		}
	}
	r.mu.Unlock()
	if held == nil {
		done(nil)
		return func() {}
	}
	forgotten := make(chan struct{})
	go func() {
		select {
		case <-held:
			done(nil)
		case <-forgotten:
		}
	}()
	return func() { close(forgotten) }
}

func (r *references) snapshot() map[Key]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

// wanted returns the references that there must be.
func wanted(open map[*client]bool) map[Key]int {
	want := make(map[Key]int)
	for c := range open {
		info := c.Info()
		want[Key{RouteEveryone, info.Namespace, ""}]++
		if info.User != "" {
			want[Key{RouteUser, info.Namespace, info.User}]++
		}
		for _, g := range info.Groups {
			want[Key{RouteGroup, info.Namespace, g}]++
		}
	}
	return want
}

func TestReferencesAreThoseOfTheConnectionsThatAreThere(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		refs := newReferences()
		h := newHub(t, func(c *Config) { c.Interest = refs })
		open := make(map[*client]bool)
		var all []*client
		pick := func(rt *rapid.T) *client {
			if len(all) == 0 {
				rt.Skip("nobody yet")
			}
			return rapid.SampledFrom(all).Draw(rt, "connection")
		}
		names := rapid.SampledFrom([]string{"a", "b", "c"})
		rt.Repeat(map[string]func(*rapid.T){
			"attach": func(rt *rapid.T) {
				c := connect(t, h, rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(rt, "user"),
					rapid.SliceOfN(names, 0, 4).Draw(rt, "groups")...)
				open[c], all = true, append(all, c)
			},
			"join": func(rt *rapid.T) {
				target := &Target{Connections: []string{string(pick(rt).ID())}}
				if _, err := h.Join(t.Context(), DefaultNamespace,
					target, rapid.SliceOfN(names, 1, 3).Draw(rt, "groups")); err != nil {
					rt.Fatal(err)
				}
			},
			"leave": func(rt *rapid.T) {
				target := &Target{Connections: []string{string(pick(rt).ID())}}
				if _, err := h.Leave(t.Context(), DefaultNamespace, target,
					[]string{names.Draw(rt, "group")}, rapid.Bool().Draw(rt, "all")); err != nil {
					rt.Fatal(err)
				}
			},
			"close": func(rt *rapid.T) {
				c := pick(rt)
				c.Close(cause.Backend.CloseStatus())
				delete(open, c)
			},
			"": func(rt *rapid.T) {
				if diff := cmp.Diff(wanted(open), refs.snapshot()); diff != "" {
					rt.Fatal(diff)
				}
			},
		})
	})
}

func TestAttachAndJoinReturnWhenTheirKeysAreInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refs := newReferences()
		refs.held = make(chan struct{})
		h := newHub(t, func(c *Config) { c.Interest = refs })
		attached := make(chan *client)
		go func() { attached <- connect(t, h, "ann", "lobby") }()
		synctest.Wait()
		select {
		case <-attached:
			t.Error("attach did not wait")
		default:
		}
		if n := h.Count(DefaultNamespace, &Target{Users: []string{"ann"}}); n != 1 {
			t.Error("whoever is told of the connection does not find it")
		}
		want := []Key{{
			RouteGroup, DefaultNamespace, "lobby",
		}, {RouteEveryone, DefaultNamespace, ""}, {RouteUser, DefaultNamespace, "ann"}}
		if diff := cmp.Diff(want, refs.asked); diff != "" {
			t.Error(diff)
		}
		close(refs.held)
		c := <-attached

		refs.held = make(chan struct{})
		target := &Target{Users: []string{"ann"}}
		// it waits for keys that another call has added, too
		for _, groups := range [][]string{{"blue"}, {"blue", "blue"}} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := h.Join(ctx, DefaultNamespace, target, groups); !errors.Is(
				err, context.DeadlineExceeded,
			) {
				t.Errorf("join that is not in force: %v", err)
			}
			cancel()
			if diff := cmp.Diff(
				[]Key{{RouteGroup, DefaultNamespace, "blue"}}, refs.asked,
			); diff != "" {
				t.Error(diff)
			}
		}
		c.Close(cause.Backend.CloseStatus())
		if n := len(refs.snapshot()); n != 0 {
			t.Errorf("left over: %v", refs.snapshot())
		}
	})
}

func TestNothingIsLeftOfAnAttachThatGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refs := newReferences()
		refs.held = make(chan struct{})
		h := newHub(t, func(c *Config) { c.Interest = refs })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := h.Attach(ctx, Admission{
			Namespace: DefaultNamespace, User: "ann", Groups: []string{"g"}, Protocol: routed{},
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("attach: %v", err)
		}
		if h.Len() != 0 || len(refs.snapshot()) != 0 {
			t.Errorf("%d connections, references %v", h.Len(), refs.snapshot())
		}
	})
}

// TestALostReferenceIsFound by CheckAtRest, and a doubled one, and one of a wrong kind.
func TestALostReferenceIsFound(t *testing.T) {
	h := newHub(t)
	connect(t, h, "ann", "g")
	user, group := Key{RouteUser, DefaultNamespace, "ann"}, Key{RouteGroup, DefaultNamespace, "g"}
	wrong := Key{RouteUser, DefaultNamespace, "g"}
	for name, change := range map[string]func(undo bool){
		"lost":    func(undo bool) { addOrRemove(h, user, undo) },
		"doubled": func(undo bool) { addOrRemove(h, group, !undo) },
		"of a wrong kind": func(undo bool) {
			addOrRemove(h, wrong, !undo)
			addOrRemove(h, group, undo)
		},
	} {
		change(false)
		if err := h.CheckAtRest(); err == nil || !strings.Contains(err.Error(), "references") {
			t.Errorf("%s: %v", name, err)
		}
		change(true)
		if err := h.CheckAtRest(); err != nil {
			t.Errorf("%s, undone: %v", name, err)
		}
	}
}

func addOrRemove(h *Hub, k Key, add bool) {
	if add {
		h.interest.Add(k)
	} else {
		h.interest.Remove(k)
	}
}
