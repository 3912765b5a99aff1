package moving

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/control/mesh/handover"
	"github.com/connhub/connhub/control/mesh/move"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// TestEveryStepSurvivesItsWay: a step is the same behind the wire, in however many parts it goes.
func TestEveryStepSurvivesItsWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]move.Kind{
			move.Offer, move.Changes, move.Last, move.Abort, move.Query, move.Released, move.Over,
			move.Shadowed, move.Never, move.Adopted, move.Announce, move.Settle, move.Done,
			move.Refused, move.Elsewhere,
		}).Draw(t, "kind")
		m := &move.Message{
			Kind: kind, Move: move.Move{
				ID: move.ID{From: "a", Number: rapid.Uint64().Draw(t, "number")},
				To: "b", Connection: "c", Epoch: rapid.Uint32().Draw(t, "epoch"),
			},
			Complete: rapid.Bool().Draw(t, "complete"), IsFinal: rapid.Bool().Draw(t, "final"),
			Hub: hub.ID(rapid.SampledFrom([]string{"", "d"}).Draw(t, "hub")),
		}
		for range rapid.IntRange(0, 3).Draw(t, "marks") {
			lane := rapid.IntRange(0, 63).Draw(t, "lane")
			m.Marked = append(m.Marked, move.Origin{Hub: "x", Lane: lane})
		}
		sizes := []int{1, partBytes, partBytes + 1, 3*partBytes - 1}
		size := rapid.SampledFrom(sizes).Draw(t, "size")
		hasBody := kind <= move.Last || kind == move.Released
		if hasBody {
			m.Body = bytes.Repeat([]byte{7}, size)
		}
		parts, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		a := Assembler{IsOfRequests: isRequest(kind)}
		for i, p := range parts {
			got, err := a.Add(p)
			if err != nil || (got == nil) != (i < len(parts)-1) {
				t.Fatalf("part %d of %d: %v, %v", i, len(parts), got, err)
			}
			if got != nil {
				checkStep(t, got, m)
			}
		}
	})
}

func checkStep(t *rapid.T, got, want *move.Message) {
	gotBody, _ := got.Body.([]byte)
	wantBody, _ := want.Body.([]byte)
	if !bytes.Equal(gotBody, wantBody) || (got.Body == nil) != (want.Body == nil) {
		t.Fatalf("body of %d bytes, want %d", len(gotBody), len(wantBody))
	}
	if got.Kind != want.Kind || got.Move != want.Move || got.Complete != want.Complete ||
		got.IsFinal != want.IsFinal || got.Hub != want.Hub || len(got.Marked) != len(want.Marked) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	for i := range want.Marked {
		if got.Marked[i] != want.Marked[i] {
			t.Fatalf("mark %v, want %v", got.Marked[i], want.Marked[i])
		}
	}
}

// TestATakeCarriesItsProof.
func TestATakeCarriesItsProof(t *testing.T) {
	proof := &peerv1.TakeProof{Namespace: "default", Proof: bytes.Repeat([]byte{3}, 32)}
	parts, err := Encode(&move.Message{Kind: move.Take, Body: proof})
	if err != nil || len(parts) != 1 {
		t.Fatal(parts, err)
	}
	a := Assembler{IsOfRequests: true}
	got, err := a.Add(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := got.Body.(*peerv1.TakeProof); !ok || !proto.Equal(p, proof) {
		t.Errorf("proof %v, want %v", got.Body, proof)
	}
}

// TestPartsOfDifferentStepsAreRefused, and so is a body without end.
func TestPartsOfDifferentStepsAreRefused(t *testing.T) {
	name := &peerv1.MoveName{From: "a", Number: 1, Connection: "c"}
	begin := &peerv1.MoveMessage{Kind: peerv1.MoveKind_MOVE_KIND_OFFER, Move: name, More: true}
	a := Assembler{IsOfRequests: true}
	if _, err := a.Add(begin); err != nil {
		t.Fatal(err)
	}
	other := &peerv1.MoveMessage{Kind: peerv1.MoveKind_MOVE_KIND_LAST, Move: name}
	if _, err := a.Add(other); !errors.Is(err, ErrBroken) {
		t.Errorf("a part of a different step: %v", err)
	}
	endless := Assembler{IsOfRequests: true}
	part := &peerv1.MoveMessage{
		Kind: peerv1.MoveKind_MOVE_KIND_OFFER, Move: name, More: true, Body: make([]byte, 1<<20),
	}
	for i := 0; ; i++ {
		_, err := endless.Add(part)
		switch {
		case errors.Is(err, ErrBroken) && i == handover.MaxBytes>>20:
			return
		case err != nil || i > handover.MaxBytes>>20:
			t.Fatalf("part %d of a body: %v", i, err)
		}
	}
}

// TestStepsOfAWrongDirectionAreRefused, and steps of lanes: those would be calls without a body.
func TestStepsOfAWrongDirectionAreRefused(t *testing.T) {
	for kind := range peerv1.MoveKind(32) {
		m := &peerv1.MoveMessage{Kind: kind, Move: &peerv1.MoveName{Connection: "c"}}
		request, response := Assembler{IsOfRequests: true}, Assembler{}
		_, asRequest := request.Add(m)
		_, asResponse := response.Add(m)
		_, known := peerv1.MoveKind_name[int32(kind)]
		switch fits := (asRequest == nil) != (asResponse == nil); {
		case known && kind != 0 && !fits:
			t.Errorf("%v: as a request %v, as a response %v", kind, asRequest, asResponse)
		case !known && (asRequest == nil || move.Kind(kind).IsOfLane() && asResponse == nil):
			t.Errorf("kind %d: as a request %v, as a response %v", kind, asRequest, asResponse)
		}
	}
}

// TestTheKindsOfStepsHaveTheNumbersOfTheProto.
func TestTheKindsOfStepsHaveTheNumbersOfTheProto(t *testing.T) {
	for number, name := range peerv1.MoveKind_name {
		if number == 0 {
			continue
		}
		kind := move.Kind(number) //nolint:gosec // few kinds
		want := "MOVE_KIND_" + strings.ToUpper(kind.String())
		if name != want {
			t.Errorf("kind %d is %s, want %s", number, name, want)
		}
	}
}
