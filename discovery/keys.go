package discovery

import (
	"strings"

	"github.com/connhub/connhub/internal/names"
)

// keys has the keys of a cluster in etcd, and the prefixes of keys:
//
//	<prefix>/cluster     the cluster's id
//	<prefix>/hubs/<id>   the hub's Member, under the hub's short lease
//	<prefix>/seen/<id>   the hub's mark: the same Member, under a lease of an hour
//	<prefix>/dead/<id>   a deadRecord: the hub was declared dead
type keys struct {
	root    string // prefix of all keys
	cluster string // a key; the rest are prefixes, which end with "/"
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

// maxID is the limit of a hub's id in bytes, the same as in the protocol between hubs. Our ids have
// 8.
const maxID = 64

func validID(id string) bool {
	return id != "" && len(id) <= maxID && !strings.Contains(id, "/") && isPrintable(id)
}

// isPrintable reports whether s is UTF-8 without control characters.
func isPrintable(s string) bool { return names.CheckText(s, len(s)) == nil }
