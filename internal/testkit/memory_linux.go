package testkit

import (
	"os"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"
)

// CheckReadsNothing calls do with the address of memory that can't be read. The test fails if do
// reads it. The memory ends when the test does.
func CheckReadsNothing(t testing.TB, do func(p unsafe.Pointer)) {
	t.Helper()
	page, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_NONE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(page); err != nil {
			t.Error(err)
		}
	})
	// A read is a fault, which becomes a panic of this goroutine.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			t.Errorf("read the memory: %v", fault)
		}
	}()
	do(unsafe.Pointer(unsafe.SliceData(page)))
}
