package nodetest

import (
	"bytes"
	"testing"

	"google.golang.org/grpc"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// FillOutbox queues MiB for a user whose client does not read: enough of them, so that no message
// can be written to it. It returns the number that the hub has taken. The rest, which neither the
// kernel nor the outbox holds, is dropped.
func FillOutbox(t *testing.T, conn *grpc.ClientConn, user string, enough int) (queued int) {
	t.Helper()
	payload := bytes.Repeat([]byte("x"), 1<<20)
	for range enough {
		r, err := controlv1.NewDeliveryServiceClient(conn).Send(t.Context(), &controlv1.SendRequest{
			Target: &controlv1.Target{Users: []string{user}}, Wait: controlv1.Wait_WAIT_QUEUED,
			Message:        &controlv1.Message{Payload: &controlv1.Message_Binary{Binary: payload}},
			OverflowPolicy: controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_NEWEST,
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.GetReceipt().GetDropped()) == 0 {
			queued++
		}
	}
	return queued
}
