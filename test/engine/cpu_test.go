//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// clockProcessCPU is CLOCK_PROCESS_CPUTIME_ID (linux/time.h): user and system time of all threads.
const clockProcessCPU = 2

// cpuTime returns the CPU time of this process.
func cpuTime() time.Duration { return clockTime(clockProcessCPU) }

// processClock returns clockProcessCPU of a different process (linux/posix-timers.h).
func processClock(pid int) int32 { return int32(^pid)<<3 | clockProcessCPU }

func clockTime(clock int32) time.Duration {
	var t syscall.Timespec
	if _, _, errno := syscall.RawSyscall(
		syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&t)), 0,
	); errno != 0 {
		panic(errno) // no such process: a binary has ended
	}
	return time.Duration(t.Nano())
}

// cores is a set of CPUs in the format of sched_setaffinity(2).
type cores [1024 / 64]uint64

// allowed returns the cores that this thread may use.
func allowed() (cores, error) {
	var c cores
	_, _, errno := syscall.RawSyscall(
		syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)),
	)
	if errno != 0 {
		return c, fmt.Errorf("sched_getaffinity: %w", errno)
	}
	return c, nil
}

// pin restricts this thread to these cores.
func (c *cores) pin() error {
	if _, _, errno := syscall.RawSyscall(
		syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(*c), uintptr(unsafe.Pointer(c)),
	); errno != 0 {
		return fmt.Errorf("sched_setaffinity: %w", errno)
	}
	return nil
}

// one returns the n-th core of the set, or the last core if there are fewer.
func (c *cores) one(n int) cores {
	var last cores
	for i, word := range c {
		for ; word != 0; word &= word - 1 {
			last = cores{}
			last[i] = 1 << bits.TrailingZeros64(word)
			if n == 0 {
				return last
			}
			n--
		}
	}
	return last
}

// count returns the number of cores.
func (c *cores) count() int {
	n := 0
	for _, word := range c {
		n += bits.OnesCount64(word)
	}
	return n
}

// onCore calls start on a thread that is pinned to the n-th of all cores. A process that start
// starts inherits the core.
func onCore(all cores, n int, start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mine, err := allowed()
	if err != nil {
		return err
	}
	core := all.one(n)
	if err := core.pin(); err != nil {
		return err
	}
	return errors.Join(start(), mine.pin())
}
