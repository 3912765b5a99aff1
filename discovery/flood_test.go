package discovery_test

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A writer to etcd can't make a hub use unlimited memory: neither by keys that exist when the hub
// reads all, nor by keys that come later.
func TestKeysOfHubsAreCapped(t *testing.T) {
	t.Parallel()
	const most, more = 4096, 10
	etcd := serve(t)
	client := admin(t, etcd.Endpoint())
	flood(t, client, "h", most-1)
	put(t, client, prefixOf(t)+"/hubs/big", strings.Repeat("x", 1<<20))
	var log journal
	numbers := count(t)
	w := watch(t, open(t, at(etcd.Endpoint()), logTo(&log), numbers.into))
	equal(t, "hubs", len(next(t, w).Members), most-1)
	equal(t, "keys ignored", numbers.sum("connhub_discovery_keys_ignored"), 1.0)
	for i := range more {
		if _, err := client.Do(t.Context(), falseHub(t, fmt.Sprintf("z%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "those beyond are counted",
		func() bool { return numbers.sum("connhub_discovery_keys_ignored") == 1+more })
	equal(t, "hubs", numbers.sum("connhub_discovery_hubs"), float64(most-1))
	late := count(t)
	w = watch(t, open(t, at(etcd.Endpoint()), late.into))
	equal(t, "hubs that another one finds", len(next(t, w).Members), most-1)
	equal(t, "keys that it ignores", late.sum("connhub_discovery_keys_ignored"), 1.0+more)
	equal(t, "lines", log.count("more hubs than are read"), 1)
	equal(t, "lines about what is no hub", log.count("key holds no valid hub"), 1)
}

// A flood of keys that sort first displaces neither the known hubs nor the hub itself: not when the
// keys come, and not when the hub reads all again.
func TestAFloodOfKeysPushesOutNoHub(t *testing.T) {
	t.Parallel()
	const others = 150 // more than readsAtOnce
	etcd := serve(t)
	client := admin(t, etcd.Endpoint())
	flood(t, client, "x", others)
	g := newGate(t, etcd.Endpoint())
	numbers := count(t)
	a, b := open(t, at(g.address()), numbers.into), open(t, at(etcd.Endpoint()))
	w := watch(t, a)
	register(t, a, "z-self")
	register(t, b, "z-other")
	known := func() bool {
		s := next(t, w)
		_, self := s.Members["z-self"]
		_, other := s.Members["z-other"]
		return self && other && numbers.sum("connhub_discovery_hubs") >= others+2
	}
	eventually(t, "they are listed", known)

	flood(t, client, "a", 4096)
	eventually(t, "the flood is over",
		func() bool { return numbers.sum("connhub_discovery_keys_ignored") >= others+2 })
	g.close()
	eventually(t, "it is cut off", func() bool { return a.StaleFor() > 0 })
	g.reopen()
	eventually(t, "it has read everything anew", func() bool { return a.StaleFor() == 0 })
	equal(t, "hubs", numbers.sum("connhub_discovery_hubs"), 4096.0)
	w = watch(t, a)
	if !known() {
		t.Error("a hub was pushed out")
	}
	c := open(t, at(etcd.Endpoint()))
	w = watch(t, c)
	register(t, c, "z-new")
	eventually(t, "a hub that comes finds itself", func() bool {
		_, ok := next(t, w).Members["z-new"]
		return ok
	})
}

// falseHub is a write of the key of a hub that does not exist.
func falseHub(t *testing.T, id string) clientv3.Op {
	return clientv3.OpPut(prefixOf(t)+"/hubs/"+id,
		`{"id":"`+id+`","control_address":"127.0.0.1:1"}`)
}

// flood writes n such keys. A transaction of etcd has at most 128 operations.
func flood(t *testing.T, client *clientv3.Client, name string, many int) {
	t.Helper()
	var some []clientv3.Op
	for i := range many {
		some = append(some, falseHub(t, fmt.Sprintf("%s%04d", name, i)))
		if len(some) < 100 && i < many-1 {
			continue
		}
		if _, err := client.Txn(t.Context()).Then(some...).Commit(); err != nil {
			t.Fatal(err)
		}
		some = nil
	}
}
