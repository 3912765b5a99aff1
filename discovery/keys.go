package discovery

import (
	"strings"

	"github.com/connhub/connhub/internal/names"
)

// keys are the places of a cluster in etcd.
//
//	<prefix>/cluster     the cluster's id
//	<prefix>/hubs/<id>   a Member, under its hub's lease
//	<prefix>/seen/<id>   the same Member, under a lease that outlasts an outage of etcd
//	<prefix>/dead/<id>   who declared the hub dead
type keys struct {
	root    string // of all of them
	cluster string
	hubs    string
	seen    string
	dead    string
}

func newKeys(prefix string) keys {
	return keys{
		root:    prefix + "/",
		cluster: prefix + "/cluster",
		hubs:    prefix + "/hubs/",
		seen:    prefix + "/seen/",
		dead:    prefix + "/dead/",
	}
}

// maxID bounds a hub's id in bytes, as the hubs' own protocol does; ours have 8.
const maxID = 64

func validID(id string) bool {
	return id != "" && len(id) <= maxID && !strings.Contains(id, "/") && printable(id)
}

// printable reports whether text can be shown as it is.
func printable(s string) bool { return names.CheckText(s, len(s)) == nil }
