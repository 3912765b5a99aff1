//go:build !linux

package test

import "syscall"

var dieWithTests *syscall.SysProcAttr
