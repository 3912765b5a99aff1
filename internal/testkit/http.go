package testkit

import (
	"io"
	"net/http"
	"testing"
)

// Answer is an HTTP answer.
type Answer struct {
	Code   int         // of the status
	Body   string      // all of it
	Header http.Header // its fields
}

// Get asks for url. header are fields of the request; "Host" names the host that is asked for.
func Get(t *testing.T, url string, header map[string]string) Answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	request.Host = header["Host"]
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Answer{response.StatusCode, string(body), response.Header}
}
