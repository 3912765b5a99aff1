//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm waits for points in time, to some microseconds. Go's own timers are up to a millisecond
// late while all goroutines wait, because epoll_wait(2) counts in milliseconds.
type alarm struct{ *os.File }

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	return &alarm{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// wait returns at a time of clockMonotonic, or at once if that time is over.
func (a *alarm) wait(at time.Duration) error {
	if at <= clockTime(clockMonotonic) {
		return nil
	}
	raw, err := a.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err = raw.Control(func(fd uintptr) {
		failed = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{
			Value: unix.NsecToTimespec(at.Nanoseconds()),
		}, nil)
	}); errors.Join(err, failed) != nil {
		return fmt.Errorf("timerfd_settime: %w", errors.Join(err, failed))
	}
	var expired [8]byte // a count (timerfd_create(2))
	_, err = a.Read(expired[:])
	return err
}
