// Package console is the page at / of `connhub dev`: it connects as a client and shows the
// messages that arrive.
//
// The page loads nothing from elsewhere, and has nothing inline; its [Policy] has browsers hold
// that.
package console
