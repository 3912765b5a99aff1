package control

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// deafCaller returns a caller that takes no bytes of an answer.
func (f *fixture) deafCaller(t testing.TB) *rawCaller {
	t.Helper()
	c := f.rawCaller(t)
	if err := c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0},
	); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask calls a method with a whole request.
func (c *rawCaller) ask(t testing.TB, method string, request proto.Message) (stream uint32) {
	t.Helper()
	b, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if stream, err = c.begin(method, "Bearer "+backendSecret); err != nil {
		t.Fatal(err)
	}
	c.finish(t, stream, 0, b)
	return stream
}

// finish sends the only message of a call. The flag is 1 for a compressed one.
func (c *rawCaller) finish(t testing.TB, stream uint32, flag byte, message []byte) {
	t.Helper()
	data := append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message))), message...)
	for len(data) > 0 {
		n := min(len(data), 16<<10)
		if err := c.framer.WriteData(stream, n == len(data), data[:n]); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
	}
}

func (f *fixture) heldBytes(t testing.TB) int {
	t.Helper()
	return f.metric(t, "connhub_grpc_call_bytes")
}

func TestEveryAnswerThatIsNotReadIsHeldWithItsCall(t *testing.T) {
	const calls = 100
	for name, end := range map[string]func(*rawCaller, []uint32) error{
		"until it is read": func(c *rawCaller, _ []uint32) error {
			return c.framer.WriteSettings(
				http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16},
			)
		},
		"until the call is given up": func(c *rawCaller, streams []uint32) error {
			for _, stream := range streams {
				if err := c.framer.WriteRSTStream(stream, http2.ErrCodeCancel); err != nil {
					return err
				}
			}
			return nil
		},
		"until the connection is over": func(c *rawCaller, _ []uint32) error { return c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				c := f.deafCaller(t)
				var streams []uint32
				for i := range calls {
					if i%2 == 0 {
						streams = append(streams, c.ask(
							t, controlv1.DeliveryService_Send_FullMethodName, to(users("ann"), "x"),
						))
					} else { // its answer is empty
						streams = append(streams, c.ask(t,
							controlv1.GroupService_RemoveFromGroups_FullMethodName,
							&controlv1.RemoveFromGroupsRequest{
								Target: users("ann"), Groups: []string{"g"},
							}))
					}
					synctest.Wait()
				}
				if held := f.heldBytes(t); held < calls*port.CallWeight {
					t.Errorf("%d bytes are held by %d calls", held, calls)
				}
				if err := end(c, streams); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if held := f.heldBytes(t); held != 0 {
					t.Errorf("%d bytes are still held", held)
				}
			})
		})
	}
}

// A receipt can have a megabyte of names.
func TestAReceiptThatIsNotReadIsHeldWholeAndThenCallsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, small)
		c := f.deafCaller(t)
		names := make([]string, 1000)
		for i := range names {
			names[i] = fmt.Sprintf("%d%s", i, strings.Repeat("u", 200))
		}
		send := to(users(names...), "x")
		send.Detail = controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS
		for calls := 0; f.metric(t, "connhub_grpc_calls_refused_total") == 0; calls++ {
			if calls > MinCallBytes/3/200_000 {
				t.Fatalf("%d calls with receipts of 200 KB were taken, %d bytes are held",
					calls, f.heldBytes(t))
			}
			c.ask(t, controlv1.DeliveryService_Send_FullMethodName, send)
			synctest.Wait()
		}
	})
}

// A caller that compresses gets answers that are not, because nothing would count the compressed
// copy.
func TestAnAnswerToACompressedRequestIsHeldToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := f.deafCaller(t)
		request, err := proto.Marshal(to(users("ann"), "x"))
		if err != nil {
			t.Fatal(err)
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(request); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		stream, err := c.begin(controlv1.DeliveryService_Send_FullMethodName, "Bearer "+
			backendSecret, [2]string{"grpc-encoding", "gzip"})
		if err != nil {
			t.Fatal(err)
		}
		c.finish(t, stream, 1, packed.Bytes())
		synctest.Wait()
		if held := f.heldBytes(t); held < port.CallWeight {
			t.Errorf("%d bytes are held", held)
		}
	})
}
