// Package etcdtest runs an etcd inside the process of a test. Only tests import it.
package etcdtest

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/connhub/connhub/discovery/embedded"
)

// StartEtcd starts an etcd that ends with the test, and returns its address.
func StartEtcd(t *testing.T) string {
	t.Helper()
	c := embedded.DefaultConfig()
	c.Dir, c.ClientAddress, c.NoSync = t.TempDir(), "127.0.0.1:0", true
	e, err := embedded.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e.Endpoint()
}

// DialEtcd returns a client of the etcd at an address. It ends with the test.
func DialEtcd(t *testing.T, address string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
