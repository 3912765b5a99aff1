package dial

import (
	"testing"

	"github.com/connhub/connhub/hub"
)

func TestTheLargestPayloadIsThatOfAHub(t *testing.T) {
	if MaxPayload != hub.MaxPayload {
		t.Errorf("%d bytes, want %d", MaxPayload, hub.MaxPayload)
	}
}
