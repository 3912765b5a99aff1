package handover

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/hub/transfer"
)

// carried are the ops that a frozen connection does, with their fields.
var carried = map[hub.OpKind]struct {
	name   string
	fields []string
}{
	hub.OpPush:     {"OpPush", []string{"Envelope"}},
	hub.OpConflate: {"OpConflate", []string{"Envelope", "Index"}},
	hub.OpDrop:     {"OpDrop", []string{"Index", "Reason"}},
	hub.OpWritten:  {"OpWritten", []string{"Sequence"}},
	hub.OpAck:      {"OpAck", []string{"Sequence"}},
	hub.OpDone:     {"OpDone", []string{"Sequence"}},
	hub.OpJoin:     {"OpJoin", []string{"Group"}},
	hub.OpLeave:    {"OpLeave", []string{"Group"}},
	hub.OpDetach:   {"OpDetach", []string{"Resumption"}},
	hub.OpGrant:    {"OpGrant", []string{"Grants"}},
	hub.OpEvent:    {"OpEvent", []string{"Event"}},
}

// refused are the ops that a frozen connection does not do, each with the reason.
var refused = map[hub.OpKind][2]string{
	hub.OpAdmit:  {"OpAdmit", "it is the beginning"},
	hub.OpAttach: {"OpAttach", "a frozen connection gets no link"},
	hub.OpNumber: {"OpNumber", "the link takes no messages"},
	hub.OpClose:  {"OpClose", "the move ends with it, or Release tells of it"},
	hub.OpEnd:    {"OpEnd", "it follows OpClose"},
	hub.OpAdopt:  {"OpAdopt", "it is the beginning"},
	hub.OpMove:   {"OpMove", "it is the move itself"},
}

// stayBehind are the fields of Op that do not travel, each with the reason.
var stayBehind = map[string]string{
	"Kind":     "it is the field of the oneof",
	"Ordinal":  "the shadow numbers the event itself",
	"Identity": "of OpAdmit", "Close": "of OpClose and OpMove",
	"State": "of OpAdopt", "Stage": "of OpMove",
}

// constantsOf returns the exported constants of a type in a file. The type stands at the first of
// them.
func constantsOf(t *testing.T, file, of string) (all []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		isOfType := false
		for _, spec := range group.Specs {
			value := spec.(*ast.ValueSpec)
			if value.Type != nil {
				name, isName := value.Type.(*ast.Ident)
				isOfType = isName && name.Name == of
			}
			if isOfType && value.Names[0].IsExported() {
				all = append(all, value.Names[0].Name)
			}
		}
	}
	return all
}

// TestEachKindOfOpIsCarriedOrRefused, and each field of Op. A new kind or field fails here until it
// is in one of the tables.
func TestEachKindOfOpIsCarriedOrRefused(t *testing.T) {
	var named, fields []string
	for kind, of := range carried {
		named, fields = append(named, of.name), append(fields, of.fields...)
		if _, err := MarshalChanges([]hub.Op{{Kind: kind}}, now); kind == hub.OpPush && err == nil {
			t.Error("a push without a message was carried")
		}
	}
	for kind, of := range refused {
		named = append(named, of[0])
		if _, err := MarshalChanges([]hub.Op{{Kind: kind}}, now); !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", of[0], err)
		}
	}
	all := constantsOf(t, "../../../hub/state.go", "OpKind")
	slices.Sort(named)
	slices.Sort(all)
	if diff := cmp.Diff(all, named); diff != "" {
		t.Error("kinds of hub, and kinds here:", diff)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[hub.Op]()) {
		if slices.Contains(fields, f.Name) == (stayBehind[f.Name] != "") {
			t.Errorf("Op.%s is neither carried nor left behind, or both", f.Name)
		}
	}
}

// drawOp draws an op that a frozen connection does.
func drawOp(t *rapid.T, isWhole bool) hub.Op {
	kinds := slices.Sorted(maps.Keys(carried))
	return fillOp(t, rapid.SampledFrom(kinds).Draw(t, "kind"), isWhole)
}

func fillOp(t *rapid.T, kind hub.OpKind, isWhole bool) hub.Op {
	op := hub.Op{Kind: kind}
	f := &filler{t: t, isWhole: isWhole}
	for _, name := range carried[kind].fields {
		f.fillValue(reflect.ValueOf(&op).Elem().FieldByName(name), "Op."+name)
	}
	return op
}

// sampleOps returns one op of each kind, with all fields.
func sampleOps(tb testing.TB) []hub.Op {
	tb.Helper()
	return rapid.Custom(func(t *rapid.T) (all []hub.Op) {
		for _, kind := range slices.Sorted(maps.Keys(carried)) {
			all = append(all, fillOp(t, kind, true))
		}
		return all
	}).Example(1)
}

// TestEachFieldOfAChangeArrives, also fields that messages and the like get later.
func TestEachFieldOfAChangeArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		isWhole := rapid.Bool().Draw(t, "whole")
		ops := make([]hub.Op, rapid.IntRange(0, 12).Draw(t, "changes"))
		for i := range ops {
			ops[i] = drawOp(t, isWhole)
		}
		b, err := MarshalChanges(ops, now)
		if err != nil {
			t.Fatal(err)
		}
		got, err := UnmarshalChanges(b, now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ops, got, same); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestAChangeWithoutAFormDoesNotMove(t *testing.T) {
	for name, op := range map[string]hub.Op{
		"no message":      {Kind: hub.OpConflate},
		"index":           {Kind: hub.OpDrop, Index: -1, Reason: 1},
		"reason":          {Kind: hub.OpDrop},
		"later reason":    {Kind: hub.OpDrop, Reason: 99},
		"no event":        {Kind: hub.OpEvent},
		"kind of payload": {Kind: hub.OpEvent, Event: &hub.ClientEvent{}},
		"no resumption":   {Kind: hub.OpDetach},
		"action":          {Kind: hub.OpGrant, Grants: permission.GrantsOf([]permission.Grant{{}})},
		"kind":            {Kind: 99},
	} {
		if _, err := MarshalChanges([]hub.Op{op}, now); !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABrokenChangeIsRefused(t *testing.T) {
	type wire = peerv1.HandoverChange
	kindless := &peerv1.HandoverMessage{}
	for name, m := range map[string]*wire{
		"empty": {},
		"push":  {Change: &peerv1.HandoverChange_Push{Push: kindless}},
		"conflate": {Change: &peerv1.HandoverChange_Conflate{
			Conflate: &peerv1.HandoverConflation{},
		}},
		"drop":   {Change: &peerv1.HandoverChange_Drop{Drop: &peerv1.HandoverDrop{Reason: "x"}}},
		"join":   {Change: &peerv1.HandoverChange_Join{}},
		"leave":  {Change: &peerv1.HandoverChange_Leave{Leave: "\n"}},
		"detach": {Change: &peerv1.HandoverChange_Detach{Detach: &peerv1.HandoverResumption{}}},
		"grants": {Change: &peerv1.HandoverChange_Grants{Grants: &peerv1.HandoverGrants{
			Grants: []*peerv1.HandoverGrant{{}},
		}}},
		"event": {Change: &peerv1.HandoverChange_Event{Event: &peerv1.HandoverEvent{}}},
	} {
		b, err := proto.Marshal(&peerv1.HandoverChanges{Changes: []*wire{m}})
		if err != nil {
			t.Fatal(err)
		}
		if ops, err := UnmarshalChanges(b, now); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v, %v", name, ops, err)
		}
	}
	done := &wire{Change: &peerv1.HandoverChange_Done{Done: 1}}
	most := transfer.MaxChanges
	for n, want := range map[int]error{most: nil, most + 1: ErrBroken} {
		b, _ := proto.Marshal(&peerv1.HandoverChanges{Changes: repeated(done, n)})
		if _, err := UnmarshalChanges(b, now); !errors.Is(err, want) {
			t.Errorf("%d changes: %v", n, err)
		}
	}
}

// TestTheTablesHaveEachValue of hub and of the protos.
func TestTheTablesHaveEachValue(t *testing.T) {
	for _, tc := range []struct {
		file, of string
		wire     protoreflect.Enum
		pairs    int // without UNSPECIFIED
	}{
		{"../../../hub/message.go", "PayloadKind", peerv1.HandoverPayload(0), len(payloadKinds)},
		{"../../../hub/target.go", "RouteKind", peerv1.HandoverRoute(0), len(routeKinds) - 1},
		{"../../../hub/permission/permission.go", "Action", peerv1.HandoverAction(0), len(actions)},
	} {
		all, wire := constantsOf(t, tc.file, tc.of), tc.wire.Descriptor().Values()
		if len(all) != tc.pairs || wire.Len()-1 != tc.pairs {
			t.Errorf("%s: %q of hub, %d of the proto, %d pairs", tc.of, all, wire.Len()-1, tc.pairs)
		}
		var words []string
		for i := 1; i < wire.Len(); i++ {
			name := strings.ReplaceAll(string(wire.Get(i).Name()), "_", "")
			words = append(words, strings.ToLower(name))
		}
		for i, name := range all {
			if !strings.HasSuffix(words[i], strings.TrimPrefix(strings.ToLower(name), "route")) {
				t.Errorf("%s is %s in the proto", name, words[i])
			}
		}
	}
}
