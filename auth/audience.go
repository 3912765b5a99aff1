package auth

import (
	"net/url"
	"strings"
)

// clientPath is the path, before the namespace, of the URL that clients connect to.
const clientPath = "/client/hubs/"

// Audience returns the audience of the tokens for a namespace: the URL that its clients connect to.
// The scheme is http for ws and https for wss. The default port of the scheme is left out, and the
// path of publicURL is kept as a prefix.
func Audience(publicURL *url.URL, namespace string) string {
	scheme := publicURL.Scheme
	switch scheme {
	case "ws":
		scheme = "http"
	case "wss":
		scheme = "https"
	}
	u := url.URL{Scheme: scheme, Host: canonicalHost(scheme, publicURL.Host)}
	return u.String() + strings.TrimRight(publicURL.EscapedPath(), "/") + clientPath + namespace
}

// sameAudience reports whether the audience named in a token equals ours, a result of Audience.
// Issuers write the same URL in several ways: with or without the default port, and with any case
// in the host and in the namespace.
func sameAudience(named, ours string) bool {
	if named == ours {
		return true
	}
	u, err := url.Parse(named)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return false
	}
	path := u.EscapedPath()
	namespace := strings.LastIndexByte(path, '/') + 1
	host := url.URL{Scheme: u.Scheme, Host: canonicalHost(u.Scheme, u.Host)}
	return host.String()+path[:namespace]+strings.ToLower(path[namespace:]) == ours
}

// canonicalHost returns the host in lower case and without the default port of the scheme.
func canonicalHost(scheme, host string) string {
	implied := ":80"
	if scheme == "https" {
		implied = ":443"
	}
	return strings.TrimSuffix(strings.ToLower(host), implied)
}
