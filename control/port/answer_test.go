package port

import (
	"context"
	"runtime"
	"testing"
	"time"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// The transport forgets an answer that comes after the end of its stream.
func TestAnAnswerThatTheTransportForgetsIsGivenBack(t *testing.T) {
	b := newBudget(MinCallBytes)
	a := b.openAccount("backend")
	func() {
		ctx, cancel := context.WithCancel(t.Context())
		if !a.reserveBytes(CallWeight) {
			t.Fatal("no room")
		}
		c := &grpcCall{Context: ctx, account: a}
		answer, err := c.holdAnswer(ctx, &controlv1.SendResponse{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := newCodec().Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		data.Ref() // it is queued
		cancel()
		data.Free() // by the handler
	}()
	for begun := time.Now(); b.heldBytes() != 0; runtime.Gosched() {
		if runtime.GC(); time.Since(begun) > time.Minute {
			t.Fatalf("%d bytes are still held", b.heldBytes())
		}
	}
}
