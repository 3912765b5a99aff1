package bed

import "syscall"

// dieWithTests: a test that panics does not leave its hubs behind.
var dieWithTests = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
