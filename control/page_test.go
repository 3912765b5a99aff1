package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub/cause"
)

// pages walks through a listing and does something between its pages. It returns how often each was
// listed.
func pages(
	t *testing.T, list func(token string) (names []string, next string), between func(),
) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for token, n := "", 0; ; n++ {
		names, next := list(token)
		for _, name := range names {
			seen[name]++
		}
		if next == "" {
			return seen
		}
		if n > 1000 {
			t.Fatal("the listing has no end")
		}
		token = next
		between()
	}
}

func TestAListingHasEachConnectionThatStaysOnce(t *testing.T) {
	for name, target := range map[string]*controlv1.Target{
		"everyone":     everyone(),
		"a group":      {Groups: []string{"all"}},
		"all but some": {Everyone: true, Except: &controlv1.Exclusion{Users: []string{"nobody"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p := &wireProtocol{}
			stays := map[string]bool{}
			var passing []*client
			for i := range 1000 {
				c := f.connect(t, p, fmt.Sprint("user-", i), "all")
				if i%2 == 0 {
					stays[string(c.ID())] = true
				} else {
					passing = append(passing, c)
				}
			}
			seen := pages(t, func(token string) (ids []string, next string) {
				resp, err := f.connections.ListConnections(context.Background(),
					&controlv1.ListConnectionsRequest{
						// the size may change on the way
						Target: target, PageToken: token, PageSize: int32(1 + rand.IntN(60)),
					})
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range resp.GetConnections() {
					ids = append(ids, c.GetId())
				}
				return ids, resp.GetNextPageToken()
			}, func() {
				for range 10 { // some go, others come
					i := rand.IntN(len(passing))
					passing[i].Connection.Close(cause.Client.CloseStatus())
					passing[i] = f.connect(t, p, "new", "all")
				}
			})
			holdOnce(t, stays, seen)
		})
	}
}

func TestAListingHasEachGroupThatStaysOnce(t *testing.T) {
	f := newFixture(t)
	p := &wireProtocol{}
	stays := map[string]bool{}
	passing := make([]*client, 10)
	for i := range 8 { // 128 groups a connection, less one
		names := many(127, 3)
		for j := range names {
			names[j] = fmt.Sprintf("group ü %d-%s", i, names[j])
			stays[names[j]] = true
		}
		f.connect(t, p, "", names...)
	}
	for i := range passing {
		passing[i] = f.connect(t, p, "", fmt.Sprint("passing-", i))
	}
	n := 0
	seen := pages(t, func(token string) (names []string, next string) {
		resp, err := f.groups.ListGroups(context.Background(), &controlv1.ListGroupsRequest{
			PageToken: token, PageSize: int32(1 + rand.IntN(60)),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range resp.GetGroups() {
			names = append(names, g.GetName())
		}
		return names, resp.GetNextPageToken()
	}, func() {
		for i := range passing {
			passing[i].Connection.Close(cause.Client.CloseStatus())
			passing[i] = f.connect(t, p, "", fmt.Sprint("passing-", n))
			n++
		}
	})
	holdOnce(t, stays, seen)
}

func holdOnce(t *testing.T, stays map[string]bool, seen map[string]int) {
	t.Helper()
	for name := range stays {
		if seen[name] != 1 {
			t.Errorf("%s stayed and was listed %d times", name, seen[name])
		}
	}
	for name, n := range seen {
		if n > 1 {
			t.Errorf("%s was listed %d times", name, n)
		}
	}
}

func TestAPageTokenIsForOneRequestAndMethodOnly(t *testing.T) {
	f := newFixture(t)
	p := &wireProtocol{}
	for range 2 {
		f.connect(t, p, "ann", "g1", "g2")
	}
	list := func(change func(
		*controlv1.ListConnectionsRequest,
	),
	) (*controlv1.ListConnectionsResponse, error) {
		req := &controlv1.ListConnectionsRequest{Target: users("ann"), PageSize: 1}
		change(req)
		return f.connections.ListConnections(t.Context(), req)
	}
	first, err := list(func(*controlv1.ListConnectionsRequest) {})
	if err != nil {
		t.Fatal(err)
	}
	token := first.GetNextPageToken()
	for name, change := range map[string]func(*controlv1.ListConnectionsRequest){
		"target":    func(r *controlv1.ListConnectionsRequest) { r.Target = everyone() },
		"namespace": func(r *controlv1.ListConnectionsRequest) { r.Namespace = "other" },
	} {
		_, err := list(func(r *controlv1.ListConnectionsRequest) { r.PageToken = token; change(r) })
		if !errors.Is(failure.FromStatus(err), failure.ErrPageTokenInvalid) {
			t.Errorf("other %s: %v", name, err)
		}
	}
	if _, err := f.groups.ListGroups(
		t.Context(), &controlv1.ListGroupsRequest{PageToken: token},
	); !errors.Is(failure.FromStatus(err), failure.ErrPageTokenInvalid) {
		t.Errorf("other method: %v", err)
	}
	// The default namespace has two spellings, and the size of a page may change.
	second, err := list(func(r *controlv1.ListConnectionsRequest) {
		r.PageToken, r.Namespace, r.PageSize = token, "default", 0
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(second.GetConnections()) != 1 || second.GetNextPageToken() != "" ||
		second.GetConnections()[0].GetId() == first.GetConnections()[0].GetId() {
		t.Errorf("second page %v", second)
	}
}
