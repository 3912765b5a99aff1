package handover

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/hub/permission"
)

// lines is a protocol whose messages are lines. Its clients confirm them.
type lines struct{}

var _ hub.Numbered = lines{}

func (lines) Name() string                     { return "lines" }
func (lines) RouteKey(hub.Route) (r hub.Route) { return r }

func (lines) Encode(m *hub.Message, _ hub.Route) []byte {
	return fmt.Appendf(nil, "%s %s\n", m.Payload, m.Metadata)
}

func (lines) AppendGreeting(dst []byte, _ hub.Info, token string) []byte {
	return fmt.Appendf(dst, "%s\n", token)
}

func (lines) AppendReply(dst []byte, _ hub.PayloadKind, m []byte) []byte {
	return append(dst, m...)
}

func (lines) AppendPrefix(dst []byte, sequence uint64, _ []byte) []byte {
	return fmt.Appendf(dst, "%d ", sequence)
}

// page is a client whose link takes bytes when the test says so.
type page struct{ connection *hub.Connection }

var _ hub.Link = (*page)(nil)

func (*page) Flush()                  {}
func (*page) Stirs() bool             { return false }
func (*page) Prefetch(int)            {}
func (*page) Close(cause.CloseStatus) {}

// read returns the lines that have come.
func (p *page) read() []string {
	var wire []byte
	var batch hub.Batch
	for p.connection.Take(p, &batch, 1) {
		wire = append(wire, batch.Bytes...)
		p.connection.Written(p, batch.Units(len(batch.Bytes)))
	}
	return strings.Split(strings.TrimSuffix(string(wire), "\n"), "\n")
}

func newTestHub(t *testing.T) *hub.Hub {
	t.Helper()
	c := hub.DefaultConfig()
	c.ID = hub.NewID()
	h, err := hub.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// journey is a move between two hubs. All that the hubs hand over travels as bytes.
type journey struct {
	t        *testing.T
	from, to *hub.Hub
	id       hub.ConnectionID
}

func (j *journey) must(err error) {
	j.t.Helper()
	if err != nil {
		j.t.Fatal(err)
	}
}

func (j *journey) adopt() {
	j.t.Helper()
	s, err := j.from.Moves().Freeze(j.t.Context(), j.id, j.to.ID())
	j.must(err)
	b, err := MarshalSnapshot(s, time.Now())
	j.must(err)
	s, err = UnmarshalSnapshot(b, time.Now(), restoreRoles)
	j.must(err)
	j.must(j.to.Moves().Adopt(s, s.Epoch+1, lines{}))
}

func (j *journey) apply(ops []hub.Op, err error) {
	j.t.Helper()
	j.must(err)
	b, err := MarshalChanges(ops, time.Now())
	j.must(err)
	ops, err = UnmarshalChanges(b, time.Now())
	j.must(err)
	for _, op := range ops {
		j.must(j.to.Moves().Apply(j.id, op))
	}
}

func (j *journey) commit() {
	j.t.Helper()
	j.apply(j.from.Moves().Seal(j.id))
	j.must(j.to.Moves().Commit(j.id))
	_, err := j.from.Moves().Release(j.id, cause.Shutdown.CloseStatus())
	j.must(err)
}

func (j *journey) send(h *hub.Hub, payload, key string, expires time.Time) {
	j.t.Helper()
	s := &hub.Send{
		Message: &hub.Message{
			Namespace: hub.DefaultNamespace, Kind: hub.Text, Payload: []byte(payload),
			Metadata: map[string]string{"for": payload}, Expires: expires,
		},
		Target: hub.Target{Users: []string{"ann"}}, ConflationKey: key, Policy: overflow.DropOldest,
	}
	if key != "" {
		s.Policy = overflow.Conflate
	}
	_, err := h.Deliver(j.t.Context(), s)
	j.must(err)
}

// TestAConnectionMovesAsBytes between hubs, with all that it was, and all that it did on the way.
func TestAConnectionMovesAsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journey{t: t, from: newTestHub(t), to: newTestHub(t)}
		c, err := j.from.Attach(t.Context(), hub.Admission{
			Namespace: hub.DefaultNamespace, User: "ann", Groups: []string{"blue"},
			Protocol: lines{}, RemoteAddress: "192.0.2.1:4711", Claims: &hub.Claims{
				Roles: roleNames{"may"}, Labels: map[string]string{"team": "one"},
				Expires: time.Now().Add(time.Hour), Private: "own",
			},
		})
		j.must(err)
		j.id = c.ID()
		p := &page{c}
		j.must(c.Bind(p))
		token := p.read()[0]
		j.send(j.from, "one", "", time.Time{})
		j.send(j.from, "two", "", time.Time{})
		p.read()
		j.must(c.Ack(1))
		c.Done(7)
		j.send(j.from, "three", "key", time.Time{})
		j.send(j.from, "late", "", time.Now().Add(time.Minute))
		before := c.Info()

		j.adopt()
		j.send(j.from, "four", "key", time.Time{}) // in place of three
		j.send(j.from, "five", "", time.Time{})
		ann := hub.Target{Users: []string{"ann"}}
		_, err = j.from.Join(t.Context(), hub.DefaultNamespace, &ann, []string{"red"})
		j.must(err)
		j.apply(j.from.Moves().Changes(j.id))
		_, err = j.from.Leave(t.Context(), hub.DefaultNamespace, &ann, []string{"blue"}, false)
		j.must(err)
		grant := permission.Grant{Permission: permission.Permission{
			Action: permission.SendToGroup, Group: "granted",
		}}
		_, err = j.from.Permit(t.Context(), hub.DefaultNamespace, &ann, []permission.Grant{grant})
		j.must(err)
		j.must(c.Ack(2))
		c.Unbind(p, cause.Lost.CloseStatus())
		j.commit()

		time.Sleep(50 * time.Second) // in the bubble: "late" has 10 s left
		back, err := j.to.Resume(t.Context(), hub.DefaultNamespace, string(j.id), token)
		j.must(err)
		p = &page{back.Connection}
		j.must(back.Bind(p))
		j.send(j.to, "six", "", time.Time{})
		want := []string{
			"3 four map[for:four]", "4 late map[for:late]", "5 five map[for:five]",
			"6 six map[for:six]",
		}
		if diff := cmp.Diff(want, p.read()[1:]); diff != "" {
			t.Error(diff)
		}
		after := back.Connection.Info()
		if diff := cmp.Diff([]string{"red"}, after.Groups); diff != "" {
			t.Error("groups:", diff)
		}
		if diff := cmp.Diff(before.Identity, after.Identity); diff != "" {
			t.Error(diff)
		}
		may := permission.Permission{Action: permission.JoinGroup, Group: "may"}
		if !back.Connection.May(may) || !back.Connection.May(grant.Permission) ||
			!back.Connection.Did(7) || back.Connection.Private() != "own" {
			t.Error("permissions, commands or the protocol's own text are lost")
		}
		j.must(j.to.CheckInvariants())
		back.Connection.Close(cause.Client.CloseStatus())
	})
}
