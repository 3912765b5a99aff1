// Package neterr words errors of package net for people.
package neterr

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// Words returns the cause of a failed dial or listen, without the text that package net puts around
// it.
func Words(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return "no such host " + dns.Name
		}
		return "looking up " + dns.Name + ": " + dns.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}
