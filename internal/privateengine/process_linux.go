package privateengine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canMount says whether this system has overlayfs at all.
const canMount = true

// daemonAttributes have a daemon end with the thread that starts it, see its mounts alone,
// and get no signal of the terminal.
func daemonAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM, Unshareflags: syscall.CLONE_NEWNS}
}

// tryOverlay mounts an overlay in a folder, and takes it away.
func tryOverlay(dir string) error {
	tmp, err := os.MkdirTemp(dir, ".ecsbuild-overlay-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	at := map[string]string{}
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		at[name] = filepath.Join(tmp, name)
		if err := os.Mkdir(at[name], 0o700); err != nil {
			return err
		}
	}
	options := "lowerdir=" + at["lower"] + ",upperdir=" + at["upper"] + ",workdir=" + at["work"]
	if err := syscall.Mount("overlay", at["merged"], "overlay", 0, options); err != nil {
		return err
	}
	return syscall.Unmount(at["merged"], syscall.MNT_DETACH)
}

// killProcesses ends the daemons of a folder, and the steps of builds that they have left.
func killProcesses(folder string) {
	for range 50 { // a step that is being killed may start another process
		found := false
		processes, _ := filepath.Glob("/proc/[0-9]*")
		for _, p := range processes {
			pid, err := strconv.Atoi(filepath.Base(p))
			if err != nil || pid == os.Getpid() || !isDaemon(p, folder) && !isStep(p, folder) {
				continue
			}
			found = true
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if !found {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// isDaemon knows dockerd and containerd by the arguments that start gives them, and by the
// folder that these mean to it: a container has other folders under the same names.
func isDaemon(process, folder string) bool {
	data, _ := os.ReadFile(filepath.Join(process, "cmdline"))
	args := strings.Split(string(data), "\x00")
	has := func(flag, value string) bool {
		i := slices.Index(args, flag)
		return i > 0 && i+1 < len(args) && args[i+1] == value
	}
	if !has("--data-root", filepath.Join(folder, "data")) && !has("--config", filepath.Join(folder, "run", "containerd.toml")) {
		return false
	}
	theirs, err1 := os.Stat(filepath.Join(process, "root") + folder)
	ours, err2 := os.Stat(folder)
	return err1 == nil && err2 == nil && os.SameFile(theirs, ours)
}

// isStep knows a process whose root is made of the folder's layers, and whose engine has ended.
func isStep(process, folder string) bool {
	data, _ := os.ReadFile(filepath.Join(process, "mountinfo"))
	return bytes.Contains(data, []byte(filepath.Join(folder, "data")+"/")) && !hasEngine(process)
}

// hasEngine says whether a dockerd is among the ancestors of a process.
func hasEngine(process string) bool {
	for range 100 {
		data, err := os.ReadFile(filepath.Join(process, "stat"))
		end := bytes.LastIndexByte(data, ')') // the name before it may hold anything
		if err != nil || end < 0 {
			return false
		}
		fields := strings.Fields(string(data[end+1:]))
		if bytes.Contains(data[:end], []byte("(dockerd")) {
			return true
		}
		if len(fields) < 2 || fields[1] == "0" {
			return false
		}
		process = filepath.Join("/proc", fields[1])
	}
	return false
}

// dockerd removes docker0, the bridge of an engine that runs here, where it is told to have
// no bridge. So a private engine has one of its own, which nothing ever joins.

// bridgeName is that of a folder's engine.
func bridgeName(folder string) string {
	sum := sha256.Sum256([]byte(folder))
	return "ecsb" + hex.EncodeToString(sum[:4])
}

// bridgeAddress is a link-local one, in a network of four, away from those that clouds and
// clusters use: 169.254.64.1 to 169.254.127.253.
func bridgeAddress(folder string) net.IP {
	sum := sha256.Sum256([]byte(folder))
	return net.IPv4(169, 254, 64+sum[4]%64, sum[5]&^3|1)
}

// The requests of brctl.
// https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/sockios.h
const (
	siocBrAddBr = 0x89a0
	siocBrDelBr = 0x89a1
)

// addBridge makes the bridge of a folder's engine, anew where a killed run has left one.
func addBridge(folder string) error {
	removeBridge(folder)
	return withSocket(func(fd int) error {
		name := bridgeName(folder)
		if err := bridgeRequest(fd, siocBrAddBr, name); err != nil {
			return fmt.Errorf("cannot make the bridge %s: %w", name, err)
		}
		for _, set := range []struct {
			request uint
			address net.IP
		}{{unix.SIOCSIFADDR, bridgeAddress(folder)}, {unix.SIOCSIFNETMASK, net.IPv4(255, 255, 255, 252)}} {
			ifr, err := unix.NewIfreq(name)
			if err == nil {
				err = ifr.SetInet4Addr(set.address.To4())
			}
			if err == nil {
				err = unix.IoctlIfreq(fd, set.request, ifr)
			}
			if err != nil {
				return fmt.Errorf("cannot give the bridge %s an address: %w", name, err)
			}
		}
		return nil
	})
}

// removeBridge removes it, if it is there.
func removeBridge(folder string) {
	_ = withSocket(func(fd int) error {
		name := bridgeName(folder)
		if ifr, err := unix.NewIfreq(name); err == nil {
			ifr.SetUint16(0) // down, without which it cannot be removed
			_ = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
		}
		return bridgeRequest(fd, siocBrDelBr, name)
	})
}

func withSocket(f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

func bridgeRequest(fd int, request uintptr, name string) error {
	text := make([]byte, unix.IFNAMSIZ)
	copy(text, name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&text[0]))); errno != 0 {
		return errno
	}
	return nil
}
