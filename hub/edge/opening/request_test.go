package opening_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub/edge/opening"
)

// receive returns the request of a client that has sent text.
func receive(t *testing.T, text string) (client net.Conn, r *opening.Request) {
	t.Helper()
	client, results := read(true)
	go send(client, text, len(text))
	got := <-results
	if got.request == nil {
		t.Fatalf("not served: %+v", got)
	}
	return client, got.request
}

func TestTakeConnAnswersAndKeepsWhatTheClientSentAhead(t *testing.T) {
	for _, watched := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			client, r := receive(t, upgrade+"ahead")
			if watched {
				_ = r.HTTP().Context().Done()
			}
			go func() {
				_, _ = io.WriteString(client, ", further")
			}()
			synctest.Wait()
			r.Header().Set("Upgrade", "websocket")
			r.WriteHeader(http.StatusSwitchingProtocols)
			answers := make(chan *http.Response, 1)
			go func() {
				answer, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil {
					t.Error(err)
				}
				answers <- answer
			}()
			conn, early, err := r.TakeConn()
			if err != nil {
				t.Fatal(err)
			}
			if a := <-answers; a.StatusCode != 101 || a.Header.Get("Upgrade") != "websocket" {
				t.Errorf("answer %+v", a)
			}
			rest := make([]byte, len("ahead, further")-len(early))
			if _, err := io.ReadFull(conn, rest); err != nil ||
				string(early)+string(rest) != "ahead, further" {
				t.Errorf("watched %v: early %q, then %q, %v", watched, early, rest, err)
			}
			if _, _, err := r.TakeConn(); !errors.Is(err, http.ErrHijacked) {
				t.Errorf("taken twice: %v", err)
			}
			r.Finish(timeout)
			_, _ = client.Close(), conn.Close()
		})
	}
}

func TestTheContextEndsWhenTheClientHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, r := receive(t, upgrade)
		ctx := r.HTTP().Context()
		if err := ctx.Err(); err != nil {
			t.Error(err)
		}
		derived, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		_ = client.Close()
		<-derived.Done()
		if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(derived.Err(), context.Canceled) {
			t.Errorf("%v, %v", ctx.Err(), derived.Err())
		}
		r.Finish(timeout)
	})
}

func TestFinishWritesTheAnswerAndClosesTheConnection(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"refusal": func(w http.ResponseWriter) {
			w.Header().Set("Connection", "close")
			http.Error(w, "no", http.StatusForbidden)
		},
		"nothing": func(http.ResponseWriter) {},
	} {
		synctest.Test(t, func(t *testing.T) {
			client, r := receive(t, upgrade)
			answer(r)
			go r.Finish(timeout)
			text, err := io.ReadAll(client)
			if err != nil {
				t.Error(err)
			}
			if name == "nothing" {
				if len(text) > 0 {
					t.Errorf("%q", text)
				}
				return
			}
			a, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(text))), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(a.Body)
			if a.StatusCode != http.StatusForbidden || string(body) != "no\n" || !a.Close ||
				strings.Count(string(text), "Connection:") != 1 || a.Header.Get("Date") == "" {
				t.Errorf("%q", text)
			}
		})
	}
}

func TestAnAnswerThatNoClientReadsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, r := receive(t, upgrade)
		r.WriteHeader(http.StatusSwitchingProtocols)
		if err := r.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, _, err := r.TakeConn(); err == nil || time.Since(began) != timeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_, r = receive(t, upgrade)
		r.WriteHeader(http.StatusForbidden)
		began = time.Now()
		if r.Finish(timeout); time.Since(began) != timeout {
			t.Errorf("Finish took %v", time.Since(began))
		}
	})
}
