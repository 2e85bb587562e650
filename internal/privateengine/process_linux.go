package privateengine

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
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

// isDaemon knows dockerd and containerd by the arguments that start gives them.
func isDaemon(process, folder string) bool {
	data, _ := os.ReadFile(filepath.Join(process, "cmdline"))
	args := strings.Split(string(data), "\x00")
	has := func(flag, value string) bool {
		i := slices.Index(args, flag)
		return i > 0 && i+1 < len(args) && args[i+1] == value
	}
	return has("--data-root", filepath.Join(folder, "data")) ||
		has("--config", filepath.Join(folder, "run", "containerd.toml"))
}

// isStep knows a process whose root is made of the folder's layers.
func isStep(process, folder string) bool {
	data, _ := os.ReadFile(filepath.Join(process, "mountinfo"))
	return bytes.Contains(data, []byte(filepath.Join(folder, "data")+"/"))
}
