package test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/test/bed"
)

// callers is how many backends send at once.
const callers = 8

const (
	// lastWord is the text after which a member counts no further messages.
	lastWord = "end"
	// ignored is a text that no member counts.
	ignored = "ignored"
)

// member is a client of a crowd, with the messages that it has got.
type member struct {
	*bed.Client
	index     int // in crowd.members
	id        string
	hub       string // that has it
	namespace string
	user      string
	groups    []string
	protocol  string
	heard     chan time.Time // takes the time of each message while there is room; nil: not wanted

	// Owned by run until ended is closed.
	got    [callers][]int // the numbers that each caller gave its messages, in the order of arrival
	frames int            // messages, the last word not counted

	// Owned by run until crowd.reading is done.
	over   bool     // the last word has come
	strays []string // unexpected messages, and messages behind the last word
	err    error    // how the connection ended

	// Owned by the test.
	late []string // messages that may come behind the last word

	ended chan struct{} // closed at the last word, or when the connection is over
}

// crowd has the clients of a test, and knows the members that each target matches. It is the simple
// model beside the hub's index.
type crowd struct {
	// of the members: the number in the namespace "default", and the number of their users
	many, users int

	members []*member
	byID    map[string]*member
	byUser  map[string][]*member // names are not used in two namespaces
	byGroup map[string][]*member
	all     map[string][]*member // by namespace

	reading sync.WaitGroup
}

func newCrowd() *crowd {
	return &crowd{
		byID: map[string]*member{}, byUser: map[string][]*member{}, byGroup: map[string][]*member{},
		all: map[string][]*member{},
	}
}

// add makes a member, which is not connected yet.
func (c *crowd) add(namespace, user, protocol string, groups ...string) *member {
	m := &member{
		index: len(c.members), namespace: namespace, user: user, groups: groups, protocol: protocol,
		ended: make(chan struct{}),
	}
	c.members = append(c.members, m)
	c.all[namespace] = append(c.all[namespace], m)
	c.byUser[user] = append(c.byUser[user], m)
	for _, g := range groups {
		c.byGroup[g] = append(c.byGroup[g], m)
	}
	return m
}

// connect brings the members in by dial.
func (c *crowd) connect(t *testing.T, members []*member, dial func(*member) (*bed.Client, error)) {
	t.Helper()
	var group sync.WaitGroup
	slots := make(chan struct{}, bed.HandshakesAtOnce)
	for _, m := range members {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			var err error
			m.Client, err = dial(m)
			bed.Report(t, err)
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// identify asks for the ids of members that are connected.
func (c *crowd) identify(t *testing.T, conn *grpc.ClientConn, members []*member) {
	t.Helper()
	byAddress := map[string]*member{}
	for _, m := range members {
		byAddress[m.Conn.LocalAddr().String()] = m
	}
	for namespace := range c.all {
		for _, listed := range listAll(t, conn, namespace) {
			if m := byAddress[listed.GetRemoteAddress()]; m != nil {
				m.id, m.hub = listed.GetId(), listed.GetHub()
				c.byID[m.id] = m
			}
		}
	}
	for _, m := range members {
		if m.id == "" {
			t.Fatalf("nobody lists %s at %v", m.user, m.Conn.LocalAddr())
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
		page := wholePage(t, func() (*controlv1.ListConnectionsResponse, error) {
			return connections.ListConnections(t.Context(), request)
		})
		all = append(all, page.GetConnections()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return all
		}
	}
}

// read starts reading the messages of the members.
func (c *crowd) read(members []*member) {
	for _, m := range members {
		c.reading.Go(m.run)
	}
}

// disperse ends the remaining connections, and waits until all readers have ended.
func (c *crowd) disperse() {
	for _, m := range c.members {
		if m.Client != nil {
			_ = m.Conn.Close()
		}
	}
	c.reading.Wait()
}

func (m *member) run() {
	m.err = m.Client.Read(m.take)
	if !m.over {
		close(m.ended)
	}
}

// take counts a message: "CALLER NUMBER" or "CALLER NUMBER PADDING".
func (m *member) take(message []byte) {
	text, ok := textOf(m.protocol, message)
	switch {
	case !ok && strings.HasPrefix(string(message), `{"type":"connected"`):
	case ok && text == ignored:
	case m.over && text == lastWord: // said again, to others
	case !ok || m.over:
		m.strays = append(m.strays, string(message))
	case text == lastWord:
		m.over = true
		close(m.ended)
	default:
		m.count(text)
	}
}

func (m *member) count(text string) {
	caller, rest, _ := strings.Cut(text, " ")
	number, _, _ := strings.Cut(rest, " ")
	who, err1 := strconv.Atoi(caller)
	n, err2 := strconv.Atoi(number)
	if errors.Join(err1, err2) != nil || who >= callers {
		m.strays = append(m.strays, text)
		return
	}
	m.got[who] = append(m.got[who], n)
	m.frames++
	select {
	case m.heard <- time.Now():
	default:
	}
}

// mayStillGet adds messages of a caller with an unknown fate. They may come, each once, behind the
// last word: another caller says it, and it takes a different way.
func (m *member) mayStillGet(caller int, numbers []int) {
	for _, n := range numbers {
		m.late = append(m.late, fmt.Sprint(caller, " ", n))
	}
}

// checkStrays ends all connections, and checks that no message came that was not sent.
func (c *crowd) checkStrays(t *testing.T) {
	t.Helper()
	c.disperse()
	late := 0
	for _, m := range c.members {
		strays := slices.DeleteFunc(m.strays, func(message string) bool {
			text, _ := textOf(m.protocol, []byte(message))
			i := slices.Index(m.late, text)
			if i < 0 {
				return false
			}
			m.late = slices.Delete(m.late, i, i+1)
			late++
			return true
		})
		if len(strays) > 0 {
			t.Errorf("%s got %.200q besides", m.user, strays)
		}
	}
	if late > 0 {
		t.Logf("%d messages whose outcome was unknown came at the very end", late)
	}
}

// matched returns the members of a target, each once. It goes through all members that the target
// names.
func (c *crowd) matched(namespace string, target *controlv1.Target) []*member {
	out := make(map[*member]bool)
	except := target.GetExcept()
	c.each(except.GetConnections(), except.GetUsers(), except.GetGroups(), func(m *member) {
		out[m] = true
	})
	var in []*member
	pick := func(m *member) {
		if m.namespace == namespace && !out[m] {
			out[m] = true // not twice
			in = append(in, m)
		}
	}
	if target.GetEveryone() {
		for _, m := range c.all[namespace] {
			pick(m)
		}
	}
	c.each(target.GetConnections(), target.GetUsers(), target.GetGroups(), pick)
	return in
}

func (c *crowd) each(ids, users, groups []string, visit func(*member)) {
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

// textOf returns the text in a message of a protocol; false: it is no message of a backend.
func textOf(protocol string, message []byte) (string, bool) {
	text := string(message)
	if protocol == "" {
		return text, true
	}
	// Tests' texts need no escapes.
	_, data, ok := strings.Cut(text, `"dataType":"text","data":"`)
	if !ok {
		return "", false
	}
	return strings.TrimSuffix(data, `"}`), true
}
