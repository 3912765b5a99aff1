package auth

import (
	"net/url"
	"testing"
)

func TestAudienceIsTheClientURL(t *testing.T) {
	for _, c := range []struct{ public, want string }{
		{"https://hub.example", "https://hub.example/client/hubs/chat"},
		{"https://hub.example/", "https://hub.example/client/hubs/chat"},
		{"wss://Hub.example:443", "https://hub.example/client/hubs/chat"},
		{"wss://hub.example:8443/edge/", "https://hub.example:8443/edge/client/hubs/chat"},
		{"ws://127.0.0.1:8080", "http://127.0.0.1:8080/client/hubs/chat"},
		{"http://[::1]:8080/a%2Fb", "http://[::1]:8080/a%2Fb/client/hubs/chat"},
	} {
		u, err := url.Parse(c.public)
		if err != nil {
			t.Fatal(err)
		}
		if have := Audience(u, "chat"); have != c.want {
			t.Errorf("%s: have %s, want %s", c.public, have, c.want)
		}
	}
}

func TestAnAudienceMayBeWrittenInSeveralWays(t *testing.T) {
	for _, c := range []struct {
		named, ours string
		same        bool
	}{
		{"https://hub.example/client/hubs/chat", "https://hub.example/client/hubs/chat", true},
		{"https://hub.example:443/client/hubs/chat", "https://hub.example/client/hubs/chat", true},
		{"HTTPS://Hub.Example/client/hubs/Chat", "https://hub.example/client/hubs/chat", true},
		{"http://hub.example:80/client/hubs/chat", "http://hub.example/client/hubs/chat", true},
		{
			"https://hub.example:80/client/hubs/chat", "https://hub.example:80/client/hubs/chat",
			true,
		},
		{"http://[::1]:80/edge/client/hubs/chat", "http://[::1]/edge/client/hubs/chat", true},
		{"http://hub.example/client/hubs/chat", "https://hub.example/client/hubs/chat", false},
		{"https://hub.example:80/client/hubs/chat", "https://hub.example/client/hubs/chat", false},
		{
			"https://hub.example/Edge/client/hubs/chat",
			"https://hub.example/edge/client/hubs/chat", false,
		},
		{"https://hub.example/client/hubs/chat/", "https://hub.example/client/hubs/chat", false},
		{"https://hub.example/client/hubs/chat?x", "https://hub.example/client/hubs/chat", false},
		{"https://hub.example/client/hubs/chat#x", "https://hub.example/client/hubs/chat", false},
		{"https://u@hub.example/client/hubs/chat", "https://hub.example/client/hubs/chat", false},
		{
			"https://evil.example/https://hub.example/client/hubs/chat",
			"https://hub.example/client/hubs/chat", false,
		},
		{"wss://hub.example/client/hubs/chat", "https://hub.example/client/hubs/chat", false},
		{"", "https://hub.example/client/hubs/chat", false},
		{"%", "https://hub.example/client/hubs/chat", false},
		{"https://webpubsub.azure.com", "https://hub.example/client/hubs/chat", false},
	} {
		if have := sameAudience(c.named, c.ours); have != c.same {
			t.Errorf("%q as %q: %v", c.named, c.ours, have)
		}
	}
}
