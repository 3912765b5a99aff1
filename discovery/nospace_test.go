package discovery_test

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// setFull sets or clears the alarm that makes etcd refuse writes that need disk space.
func setFull(t *testing.T, client *clientv3.Client, action pb.AlarmRequest_AlarmAction) {
	t.Helper()
	_, err := pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(t.Context(),
		&pb.AlarmRequest{
			Action: action, Alarm: pb.AlarmType_NOSPACE,
		})
	if err != nil {
		t.Fatal(err)
	}
}

// An etcd whose disk quota is used up refuses new keys but answers reads. A running hub must still
// see its peers come and go.
func TestAFullEtcdIsStillRead(t *testing.T) {
	t.Parallel()
	etcd := serve(t)
	g := newGate(t, etcd.Endpoint())
	var log journal
	a, b := open(t, at(g.address()), logTo(&log)), open(t, at(etcd.Endpoint()))
	w := watch(t, a)
	register(t, a, "a")
	register(t, b, "b")
	sees(t, w, "a", "b")

	client := admin(t, etcd.Endpoint())
	setFull(t, client, pb.AlarmRequest_ACTIVATE)
	g.close()
	eventually(t, "it is cut off", func() bool { return a.StaleFor() > 0 })
	if err := b.Deregister(t.Context()); err != nil { // deleting needs no space
		t.Fatal(err)
	}
	g.reopen()
	sees(t, w, "a")
	eventually(t, "it hears etcd", func() bool { return a.StaleFor() == 0 })

	// The key is lost, so that the hub has something to write.
	key, err := client.Get(t.Context(), prefixOf(t)+"/hubs/a")
	if err != nil || len(key.Kvs) != 1 {
		t.Fatal(key, err)
	}
	if _, err := client.Revoke(t.Context(), clientv3.LeaseID(key.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	sees(t, w)
	eventually(t, "it says what etcd says",
		func() bool { return log.count("database space exceeded") == 1 })
	if stale := a.StaleFor(); stale != 0 {
		t.Errorf("etcd answers, and is said not to have been heard for %v", stale)
	}
	setFull(t, client, pb.AlarmRequest_DEACTIVATE)
	sees(t, w, "a")
	eventually(t, "it says so", func() bool { return log.count("hub registered again") > 0 })
}
