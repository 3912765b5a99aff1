package control

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/mesh"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Each verb of forward.proto has a row, and a row wraps its call and its result under its name.
func TestEachForwardedCallHasAnExecution(t *testing.T) {
	fields := (*peerv1.Forward)(nil).ProtoReflect().Descriptor().Oneofs().ByName("call").Fields()
	for i := range fields.Len() {
		if name := string(fields.Get(i).Name()); name != "send" && executions[name] == nil {
			t.Errorf("no execution for %s", name)
		}
	}
	for _, row := range []struct {
		name           string
		call           *peerv1.Forward
		result, parted proto.Message
	}{
		{"join", joinVerb.wrap(nil), joinVerb.result(nil), joinVerb.partOf(nil)},
		{"leave", leaveVerb.wrap(nil), leaveVerb.result(nil), leaveVerb.partOf(nil)},
		{"close", closeVerb.wrap(nil), closeVerb.result(nil), closeVerb.partOf(nil)},
		{"close", countVerb.wrap(nil), countVerb.result(nil), countVerb.partOf(nil)},
		{"grant", grantVerb.wrap(nil), grantVerb.result(nil), grantVerb.partOf(nil)},
		{"revoke", revokeVerb.wrap(nil), revokeVerb.result(nil), revokeVerb.partOf(nil)},
	} {
		if kind := mesh.KindOf(row.call); kind != row.name {
			t.Errorf("%s wraps its call as %s", row.name, kind)
		}
		result := row.result.ProtoReflect()
		field := result.WhichOneof(result.Descriptor().Oneofs().ByName("result"))
		if field == nil || string(field.Name()) != row.name {
			t.Errorf("%s wraps its result as %v", row.name, field)
		}
		want := field.Message().FullName()
		if row.parted.ProtoReflect().Descriptor().FullName() != want {
			t.Errorf("%s takes its part as another message than %s", row.name, want)
		}
	}
}
