//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// System calls that package syscall does not know; they have the same numbers everywhere (asm-generic/unistd.h).
const (
	sysPidfdOpen  = 434
	sysPidfdGetfd = 438
)

// renoOf sets the congestion control of the TCP sockets that a process of ours has: a binary takes the machine's for them. What
// its listeners accept later inherits it.
func renoOf(process *os.Process) error {
	pidfd, _, errno := syscall.RawSyscall(sysPidfdOpen, uintptr(process.Pid), 0, 0)
	if errno != 0 {
		return fmt.Errorf("pidfd_open: %w", errno)
	}
	defer syscall.Close(int(pidfd))
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", process.Pid))
	if err != nil {
		return err
	}
	for _, name := range names {
		number, err := strconv.Atoi(name.Name())
		if err != nil {
			return err
		}
		fd, _, errno := syscall.RawSyscall(sysPidfdGetfd, pidfd, uintptr(number), 0)
		if errno == syscall.EBADF { // closed meanwhile
			continue
		}
		if errno != 0 {
			return fmt.Errorf("pidfd_getfd: %w", errno)
		}
		err = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, congestion)
		_ = syscall.Close(int(fd))
		if err != nil && !isNoTCP(err) {
			return fmt.Errorf("congestion control: %w", err)
		}
	}
	return nil
}

// isNoTCP tells what setting an option of TCP says of another descriptor.
func isNoTCP(err error) bool {
	return errors.Is(err, syscall.ENOTSOCK) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOPROTOOPT)
}
