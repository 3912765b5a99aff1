// Package form knows the form of the API's messages: their bytes, their rules, and their meaning in
// Go types of hub. It decodes, checks and translates requests, and encodes the requests for peers.
// It also makes the parts that answers share. It acts on nothing.
//
// A send is decoded, checked and encoded thousands of times a second, so each step has a short way
// for sends of the common kind (wire.go, keepsRules). Tests hold that both ways agree.
//
// Errors are of control/failure. A Validator is constant after NewValidator, and the rest has no
// state, so everything is safe for concurrent use. Nothing waits.
package form
