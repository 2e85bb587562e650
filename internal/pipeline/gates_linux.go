package pipeline

import "syscall"

// gateAttributes make a gate the leader of a process group, and end it with ecsbuild, however
// that ends.
func gateAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
