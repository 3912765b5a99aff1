package auth

import (
	"net/url"
	"strings"
)

// clientPath stands before the namespace in the URL at which clients connect.
const clientPath = "/client/hubs/"

// Audience returns the audience of the tokens for a namespace: the URL at which its clients connect, with
// http for ws and https for wss, without a port that the scheme implies, and with a path prefix of publicURL kept.
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

// sameAudience tells whether an audience that a token names is ours, which is an Audience. Issuers write one URL in
// several ways: with or without the port that the scheme implies, host and namespace in any case.
func sameAudience(named, ours string) bool {
	if named == ours {
		return true
	}
	u, err := url.Parse(named)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return false
	}
	path := u.EscapedPath()
	namespace := strings.LastIndexByte(path, '/') + 1
	host := url.URL{Scheme: u.Scheme, Host: canonicalHost(u.Scheme, u.Host)}
	return host.String()+path[:namespace]+strings.ToLower(path[namespace:]) == ours
}

// canonicalHost is a host in lower case, without the port that the scheme implies.
func canonicalHost(scheme, host string) string {
	implied := ":80"
	if scheme == "https" {
		implied = ":443"
	}
	return strings.TrimSuffix(strings.ToLower(host), implied)
}
