package handover

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub/cause"
)

func TestEachCloseArrives(t *testing.T) {
	all := []*cause.CloseStatus{nil, {
		Cause: cause.Backend, Code: 4999, Reason: strings.Repeat("é", cause.MaxReason/2),
	}}
	for _, c := range cause.All() {
		how := c.CloseStatus()
		all = append(all, &how)
	}
	for _, how := range all {
		b, err := MarshalClose(how)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := UnmarshalClose(b); err != nil || !cmp.Equal(got, how) {
			t.Errorf("%+v is %+v, %v", how, got, err)
		}
	}
}

func TestABrokenCloseIsRefused(t *testing.T) {
	for _, how := range []cause.CloseStatus{{}, {Cause: cause.End}, {Cause: 1, Reason: "\xff"}} {
		if _, err := MarshalClose(&how); !errors.Is(err, ErrUnfit) {
			t.Errorf("%+v: %v", how, err)
		}
	}
	for _, m := range []*peerv1.HandoverClose{
		{Cause: "never heard", Code: 1},
		{Cause: "slow", Code: 1 << 16},
		{Cause: "slow", Reason: strings.Repeat("x", cause.MaxReason+1)},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if how, err := UnmarshalClose(b); !errors.Is(err, ErrBroken) {
			t.Errorf("%v: %+v, %v", m, how, err)
		}
	}
}
