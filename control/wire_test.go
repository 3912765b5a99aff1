package control

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// commonSends are sends that are decoded without the general decoder.
func commonSends() []*controlv1.SendRequest {
	payload := func(m *controlv1.Message) *controlv1.SendRequest {
		return &controlv1.SendRequest{Target: users("ann"), Message: m}
	}
	written := to(users("ann", "bob"), "hello")
	written.Wait = controlv1.Wait_WAIT_WRITTEN
	return []*controlv1.SendRequest{
		{},
		to(users("ann"), "hello"),
		to(users("ann"), ""),
		to(&controlv1.Target{}, "hello"),
		to(&controlv1.Target{Users: []string{""}, Groups: []string{"red", "blue"}}, "grüß dich"),
		to(&controlv1.Target{Connections: []string{"c"}, Users: []string{"ann"}, Groups: []string{"red"}}, "hello"),
		payload(&controlv1.Message{Payload: &controlv1.Message_Json{Json: "{}"}}),
		payload(&controlv1.Message{Payload: &controlv1.Message_Binary{Binary: []byte{0xff}}}),
		payload(&controlv1.Message{Payload: &controlv1.Message_Binary{}}),
		payload(&controlv1.Message{}),
		written,
	}
}

func inOneRequest(sends []*controlv1.SendRequest) *controlv1.SendStreamRequest {
	request := &controlv1.SendStreamRequest{}
	for i, send := range sends {
		request.Sends = append(request.Sends, &controlv1.StreamedSend{Sequence: int64(i), Send: send})
	}
	return request
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSendsOfTheCommonKindAreDecodedInOnePiece(t *testing.T) {
	for _, want := range commonSends() {
		have := &controlv1.SendRequest{}
		if !decodeCommon(marshal(t, want), have) {
			t.Errorf("%v goes to the general decoder", want)
		}
		if diff := cmp.Diff(want, have, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	want, have := inOneRequest(commonSends()), &controlv1.SendStreamRequest{}
	if !decodeCommon(marshal(t, want), have) {
		t.Error("the request goes to the general decoder")
	}
	if diff := cmp.Diff(want, have, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestMoreSendsThanAStreamTakesAreNotBlownUp(t *testing.T) {
	many := make([]*controlv1.SendRequest, maxStreamedSends+1)
	if decodeCommon(marshal(t, inOneRequest(many)), &controlv1.SendStreamRequest{}) {
		t.Error("each got memory for a whole send")
	}
}

func FuzzBothDecodersOfSendsAgree(f *testing.F) {
	add := func(b []byte) { f.Add(b); f.Add(slices.Concat(b, b)) } // fields that come twice, too
	rich := to(&controlv1.Target{Everyone: true, Except: &controlv1.Exclusion{Users: []string{"ann"}}}, "hello")
	rich.RequestId, rich.Message.Event = "r", "e"
	for _, send := range append(commonSends(), rich) {
		add(marshal(f, send))
		add(marshal(f, inOneRequest([]*controlv1.SendRequest{send})))
	}
	add([]byte{0x12, 0x03, 0x12, 0x01, 0xff}) // a user that is not UTF-8
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []struct{ have, want proto.Message }{
			{&controlv1.SendRequest{}, &controlv1.SendRequest{}},
			{&controlv1.SendStreamRequest{}, &controlv1.SendStreamRequest{}},
		} {
			if !decodeCommon(b, m.have) {
				continue
			}
			if err := proto.Unmarshal(b, m.want); err != nil {
				t.Fatalf("%T: the general decoder says %v", m.want, err)
			}
			if diff := cmp.Diff(m.want, m.have, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		}
	})
}
