package discovery_test

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Who may write to etcd can't make a hub keep as much as it likes: neither in keys that it finds, nor in keys that come.
func TestKeysOfHubsAreCapped(t *testing.T) {
	t.Parallel()
	const most, more = 4096, 10
	etcd := serve(t)
	client := admin(t, etcd.Endpoint())
	hub := func(id string) clientv3.Op {
		return clientv3.OpPut(prefixOf(t)+"/hubs/"+id, `{"id":"`+id+`","control_address":"127.0.0.1:1"}`)
	}
	for from := 0; from < most-1; from += 100 { // etcd takes 128 at once
		var some []clientv3.Op
		for i := from; i < min(from+100, most-1); i++ {
			some = append(some, hub(fmt.Sprintf("h%04d", i)))
		}
		if _, err := client.Txn(t.Context()).Then(some...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	put(t, client, prefixOf(t)+"/hubs/big", strings.Repeat("x", 1<<20))
	var log journal
	numbers := count(t)
	w := watch(t, open(t, at(etcd.Endpoint()), logTo(&log), numbers.into))
	equal(t, "hubs", len(next(t, w).Members), most-1)
	equal(t, "keys ignored", numbers.sum("connhub_discovery_keys_ignored"), 1.0)
	for i := range more {
		if _, err := client.Do(t.Context(), hub(fmt.Sprintf("z%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "those beyond are counted", func() bool { return numbers.sum("connhub_discovery_keys_ignored") == 1+more })
	equal(t, "hubs", numbers.sum("connhub_discovery_hubs"), float64(most-1))
	late := count(t)
	w = watch(t, open(t, at(etcd.Endpoint()), late.into))
	equal(t, "hubs that another one finds", len(next(t, w).Members), most-1)
	equal(t, "keys that it ignores", late.sum("connhub_discovery_keys_ignored"), 1.0+more)
	equal(t, "lines", log.count("more hubs than are read"), 1)
	equal(t, "lines about what is no hub", log.count("key is no hub"), 1)
}
