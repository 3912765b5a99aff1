// Package publicurl checks the URL that clients see.
package publicurl

import (
	"net/url"
	"slices"
)

// WantedScheme is the first demand on a URL that clients see.
const WantedScheme = "http(s):// or ws(s):// and a host"

// Check returns the demand that a URL does not meet, or "".
func Check(u *url.URL) (want string) {
	switch {
	case u.Host == "" || !slices.Contains([]string{"http", "https", "ws", "wss"}, u.Scheme):
		return WantedScheme
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "no user, query or fragment"
	}
	return ""
}
