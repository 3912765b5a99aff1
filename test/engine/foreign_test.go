//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// System calls that package syscall does not have. Their numbers are the same everywhere
// (asm-generic/unistd.h).
const (
	sysPidfdOpen  = 434
	sysPidfdGetfd = 438
)

// renoOf sets the congestion control of all TCP sockets of a process of ours, because a binary uses
// the machine's default. Connections that its listeners accept later inherit it.
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
		if errno == syscall.EBADF { // the process has closed it meanwhile
			continue
		}
		if errno != 0 {
			return fmt.Errorf("pidfd_getfd: %w", errno)
		}
		err = syscall.SetsockoptString(
			int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, congestion,
		)
		_ = syscall.Close(int(fd))
		if err != nil && !isNoTCP(err) {
			return fmt.Errorf("congestion control: %w", err)
		}
	}
	return nil
}

// isNoTCP reports whether err comes from setting an option of TCP on a descriptor of another kind.
func isNoTCP(err error) bool {
	return errors.Is(err, syscall.ENOTSOCK) || errors.Is(err, syscall.EOPNOTSUPP) ||
		errors.Is(err, syscall.ENOPROTOOPT)
}
