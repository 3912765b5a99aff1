package tally

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

const (
	// ManyMembers is the number of clients of AddMany in the namespace "default" where a test needs
	// no fewer.
	ManyMembers = 2900
	// ManyUsers is the number of their users. Users have three connections each, which are in three
	// different pairs of groups.
	ManyUsers = 967

	smallGroups = 60 // of 48 or 49
	largeGroups = 12 // of 241 or 242
	fewMembers  = 100
)

// Crowd has the clients of a test, and knows the members that each target matches. It is the simple
// model beside the hub's index. It belongs to the goroutine of the test; callers may ask Matched at
// once while no member is added.
type Crowd struct {
	Members []*Member // in the order of Add

	// of AddMany: the number in the namespace "default", and the number of their users
	many, users int

	byID    map[string]*Member
	byUser  map[string][]*Member // names are not used in two namespaces
	byGroup map[string][]*Member
	all     map[string][]*Member // by namespace

	reading sync.WaitGroup
}

// New makes a crowd without members.
func New() *Crowd {
	return &Crowd{
		byID: map[string]*Member{}, byUser: map[string][]*Member{}, byGroup: map[string][]*Member{},
		all: map[string][]*Member{},
	}
}

// Add makes a member, which is not connected yet.
func (c *Crowd) Add(namespace, user, protocol string, groups ...string) *Member {
	m := &Member{
		Index: len(c.Members), Namespace: namespace, User: user, Groups: groups, Protocol: protocol,
		ended: make(chan struct{}),
	}
	c.Members = append(c.Members, m)
	c.all[namespace] = append(c.all[namespace], m)
	c.byUser[user] = append(c.byUser[user], m)
	for _, g := range groups {
		c.byGroup[g] = append(c.byGroup[g], m)
	}
	return m
}

// AddMany adds clients that read: many of so many users in the namespace "default", each in a small
// and a large group, and a few in the namespace "few". Callers send to them. It returns all
// members.
func (c *Crowd) AddMany(many, users int) []*Member {
	c.many, c.users = many, users
	protocols := []string{"", envelope.Name}
	for i := range many {
		c.Add("default", fmt.Sprint("user-", i%users), protocols[i%2],
			fmt.Sprint("small-", i%smallGroups), fmt.Sprint("large-", i/7%largeGroups))
	}
	for i := range fewMembers {
		c.Add("few", fmt.Sprint("few-", i), protocols[i%2])
	}
	return slices.Clone(c.Members)
}

// Connect brings the members in by dial, and each reads from then on: a client that does not read
// answers no pings, and the last of a large crowd may come a minute after the first.
func (c *Crowd) Connect(t *testing.T, members []*Member, dial func(*Member) (*bed.Client, error)) {
	t.Helper()
	connectEach(t, members, func(m *Member) (err error) {
		if m.Client, err = dial(m); err == nil {
			c.reading.Go(m.readAll)
		}
		return err
	})
}

// ConnectUnread brings the members in by dial. They read nothing until Read.
func (c *Crowd) ConnectUnread(
	t *testing.T, members []*Member, dial func(*Member) (*bed.Client, error),
) {
	t.Helper()
	connectEach(t, members, func(m *Member) (err error) {
		m.Client, err = dial(m)
		return err
	})
}

// connectEach calls connect for each member, for bed.HandshakesAtOnce of them at once.
func connectEach(t *testing.T, members []*Member, connect func(*Member) error) {
	t.Helper()
	var group sync.WaitGroup
	slots := make(chan struct{}, bed.HandshakesAtOnce)
	for _, m := range members {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			bed.Report(t, connect(m))
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// Identify asks for the ids of members that are connected.
func (c *Crowd) Identify(t *testing.T, conn *grpc.ClientConn, members []*Member) {
	t.Helper()
	byAddress := map[string]*Member{}
	for _, m := range members {
		byAddress[m.Conn.LocalAddr().String()] = m
	}
	for namespace := range c.all {
		for _, listed := range listAll(t, conn, namespace) {
			if m := byAddress[listed.GetRemoteAddress()]; m != nil {
				m.ID, m.Hub = listed.GetId(), listed.GetHub()
				c.byID[m.ID] = m
			}
		}
	}
	for _, m := range members {
		if m.ID == "" {
			t.Fatalf("nobody lists %s at %v", m.User, m.Conn.LocalAddr())
		}
	}
}

func listAll(t *testing.T, conn *grpc.ClientConn, namespace string) []*controlv1.Connection {
	t.Helper()
	connections := controlv1.NewConnectionServiceClient(conn)
	request := &controlv1.ListConnectionsRequest{
		Namespace: namespace, Target: &controlv1.Target{Everyone: true}, PageSize: 1000,
	}
	var all []*controlv1.Connection
	for {
		page := WholePage(t, func() (*controlv1.ListConnectionsResponse, error) {
			return connections.ListConnections(t.Context(), request)
		})
		all = append(all, page.GetConnections()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return all
		}
	}
}

// WholePage lists until a page has the part of every hub. A page names a hub that cannot answer in
// time on a busy machine.
func WholePage[P interface{ GetUnreachableHubs() []string }](
	t *testing.T, list func() (P, error),
) (page P) {
	t.Helper()
	testkit.Eventually(t, "a page with the part of every hub", func() bool {
		var err error
		if page, err = list(); err != nil {
			t.Fatal(err)
		}
		return len(page.GetUnreachableHubs()) == 0
	})
	return page
}

// Read starts reading the messages of members that ConnectUnread brought in.
func (c *Crowd) Read(members []*Member) {
	for _, m := range members {
		c.reading.Go(m.readAll)
	}
}

// AwaitReaders waits until the connections of all members that read are over.
func (c *Crowd) AwaitReaders() { c.reading.Wait() }

// Disperse ends the remaining connections, and waits until all readers have ended.
func (c *Crowd) Disperse() {
	for _, m := range c.Members {
		if m.Client != nil {
			_ = m.Conn.Close()
		}
	}
	c.reading.Wait()
}

// CheckStrays ends all connections, and checks that no message came that was not sent.
func (c *Crowd) CheckStrays(t *testing.T) {
	t.Helper()
	c.Disperse()
	late := 0
	for _, m := range c.Members {
		strays := slices.DeleteFunc(m.Strays, func(message string) bool {
			text, _ := textOf(m.Protocol, []byte(message))
			i := slices.Index(m.late, text)
			if i < 0 {
				return false
			}
			m.late = slices.Delete(m.late, i, i+1)
			late++
			return true
		})
		if len(strays) > 0 {
			t.Errorf("%s got %.200q besides", m.User, strays)
		}
	}
	if late > 0 {
		t.Logf("%d messages whose outcome was unknown came at the very end", late)
	}
}

// Namespaces returns the namespaces that have members.
func (c *Crowd) Namespaces() []string { return slices.Sorted(maps.Keys(c.all)) }

// In returns the members in a namespace.
func (c *Crowd) In(namespace string) []*Member { return c.all[namespace] }

// InGroup returns the members in a group.
func (c *Crowd) InGroup(group string) []*Member { return c.byGroup[group] }

// Matched returns the members of a target, each once. It goes through all members that the target
// names.
func (c *Crowd) Matched(namespace string, target *controlv1.Target) []*Member {
	out := make(map[*Member]bool)
	except := target.GetExcept()
	c.visitNamed(except.GetConnections(), except.GetUsers(), except.GetGroups(), func(m *Member) {
		out[m] = true
	})
	var in []*Member
	pick := func(m *Member) {
		if m.Namespace == namespace && !out[m] {
			out[m] = true // not twice
			in = append(in, m)
		}
	}
	if target.GetEveryone() {
		for _, m := range c.all[namespace] {
			pick(m)
		}
	}
	c.visitNamed(target.GetConnections(), target.GetUsers(), target.GetGroups(), pick)
	return in
}

func (c *Crowd) visitNamed(ids, users, groups []string, visit func(*Member)) {
	for _, id := range ids {
		visit(c.byID[id])
	}
	for _, user := range users {
		for _, m := range c.byUser[user] {
			visit(m)
		}
	}
	for _, group := range groups {
		for _, m := range c.byGroup[group] {
			visit(m)
		}
	}
}
