//go:build !linux

package privateengine

import (
	"errors"
	"syscall"
)

const canMount = false

func daemonAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func tryOverlay(string) error { return errors.ErrUnsupported }

func killProcesses(string) {}

func bridgeName(string) string { return "" }

func addBridge(string) error { return errors.ErrUnsupported }

func removeBridge(string) {}
