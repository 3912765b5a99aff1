//go:build !linux

package bed

import "syscall"

var dieWithTests *syscall.SysProcAttr
