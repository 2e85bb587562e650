//go:build !linux

package pipeline

import "syscall"

// gateAttributes make a gate the leader of a process group.
func gateAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
