// Package privateengine starts a Docker engine for one run: a second dockerd, from the
// binaries on PATH, with the containerd image store, which nobody else talks to.
//
// The engine of CodeBuild's images has the classic store, which exports no cache. Its
// binaries can do more: Find looks for them and for a folder where overlayfs works, Start
// runs containerd and dockerd there, and Close ends both. They end with this process
// however it ends; what killed runs have left, the next Start clears.
//
// The folder stays between runs, and with it BuildKit's cache, of which dockerd deletes what was
// not used for longest when the disk fills. Runs at the same time have a folder each.
package privateengine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An Engine is a running private engine.
type Engine struct {
	Socket string // where it listens, a path

	folder  string
	lock    *os.File
	daemons []*daemon // in the order in which they were started
	done    chan struct{}
	once    sync.Once
}

// startTimeout is for a machine with too much to do: it takes a tenth of a second.
const startTimeout = 30 * time.Second

// stopTimeout is how long a daemon has to end by itself.
const stopTimeout = 10 * time.Second

// userConfig is where the engine of this host has its configuration.
const userConfig = "/etc/docker/daemon.json"

// carriedOver are the keys of it by which an engine reaches registries.
// https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file
var carriedOver = []string{"registry-mirrors", "insecure-registries", "dns", "dns-opts", "dns-search", "proxies"}

// config has dockerd keep images in containerd's store, and reach registries as the engine
// does whose configuration is in a file, if there is one.
func config(file string) ([]byte, error) {
	out := map[string]any{"features": map[string]bool{"containerd-snapshotter": true}}
	user := map[string]json.RawMessage{}
	if data, err := os.ReadFile(file); err == nil && json.Unmarshal(data, &user) == nil {
		for _, key := range carriedOver {
			if value, ok := user[key]; ok {
				out[key] = value
			}
		}
	}
	return json.Marshal(out)
}

// containerdConfig leaves out what a build does not need: some of it starts slowly, and some
// would write to /run and /opt, where another containerd may have its own.
const containerdConfig = `version = 2
root = %q
state = %q
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs",
]
[grpc]
  address = %q
`

// Start starts an engine with what Find has found. environ is the environment that it
// gets: the proxies and certificates by which it reaches registries, and no secret.
func Start(ctx context.Context, found *Needs, environ []string) (_ *Engine, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	folder, lock, err := claimFolder(found.Folder)
	if err != nil {
		if lock != nil {
			_ = lock.Close()
		}
		return nil, err
	}
	clearOthers(found.Folder)
	e := &Engine{folder: folder, lock: lock, done: make(chan struct{})}
	if err = e.prepare(); err == nil {
		if berr := addBridge(e.folder); berr != nil {
			err = &UnavailableError{Missing: []string{berr.Error()}}
		}
	}
	if err != nil {
		e.Close()
		return nil, err
	}
	containerd := filepath.Join(e.runFolder(), "c.sock")
	e.Socket = filepath.Join(e.runFolder(), "docker.sock")
	environ = append(environ, "PATH="+os.Getenv("PATH"), "HOME="+e.runFolder(), "TMPDIR="+filepath.Join(e.folder, "tmp"))

	started := make(chan error, 1)
	go func() {
		// The kernel ends the daemons with the thread that has started them: this one.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := e.start(environ, found.Containerd, "--config", filepath.Join(e.runFolder(), "containerd.toml"))
		if err == nil {
			err = e.await(ctx, func() bool { return answers(ctx, containerd, nil) })
		}
		if err == nil {
			err = e.start(environ, found.Dockerd, "--config-file", filepath.Join(e.runFolder(), "daemon.json"),
				"--data-root", filepath.Join(e.folder, "data"), "--exec-root", filepath.Join(e.runFolder(), "exec"),
				"--pidfile", filepath.Join(e.runFolder(), "pid"), "--host", "unix://"+e.Socket, "--group", "root",
				"--containerd", containerd, "--bridge", bridgeName(e.folder), "--iptables=false", "--ip6tables=false",
				"--ip-forward=false", "--ip-masq=false", "--userland-proxy=false", "--log-level", "warn")
		}
		started <- err
		if err == nil {
			<-e.done
		}
	}()
	if err = <-started; err == nil {
		err = e.await(ctx, func() bool { return answers(ctx, e.Socket, ping) })
	}
	if err == nil {
		err = os.Chmod(e.Socket, 0o600)
	}
	if err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// runFolder holds what has no meaning for the next run: sockets, logs and configuration.
func (e *Engine) runFolder() string { return filepath.Join(e.folder, "run") }

// Blobs is where the engine keeps blobs: its subfolder sha256 has a file for each, by the
// hexadecimal digits of the digest.
func (e *Engine) Blobs() string {
	return filepath.Join(e.containerdFolder(), "io.containerd.content.v1.content", "blobs")
}

func (e *Engine) containerdFolder() string {
	return filepath.Join(e.folder, "data", "containerd-daemon")
}

// prepare clears what a killed run has left, and writes the configuration.
func (e *Engine) prepare() error {
	killProcesses(e.folder)
	if err := errors.Join(os.RemoveAll(e.runFolder()), os.RemoveAll(filepath.Join(e.folder, "tmp"))); err != nil {
		return err
	}
	for _, dir := range []string{e.runFolder(), filepath.Join(e.folder, "tmp"), filepath.Join(e.folder, "data")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	toml := fmt.Sprintf(containerdConfig, e.containerdFolder(),
		filepath.Join(e.runFolder(), "containerd"), filepath.Join(e.runFolder(), "c.sock"))
	daemon, err := config(userConfig)
	return errors.Join(err, os.WriteFile(filepath.Join(e.runFolder(), "containerd.toml"), []byte(toml), 0o600),
		os.WriteFile(filepath.Join(e.runFolder(), "daemon.json"), daemon, 0o600))
}

// A daemon is one of the two processes.
type daemon struct {
	*exec.Cmd
	log   string // a file
	ended chan struct{}
}

// start runs a daemon, in a mount namespace that vanishes with it, and out of reach of the
// terminal's signals.
func (e *Engine) start(environ []string, path string, args ...string) error {
	d := &daemon{Cmd: exec.Command(path, args...), log: filepath.Join(e.runFolder(), filepath.Base(path)+".log"),
		ended: make(chan struct{})}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	d.Env, d.Dir, d.Stdout, d.Stderr = environ, e.runFolder(), log, log
	d.SysProcAttr = daemonAttributes()
	if err := d.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", path, err)
	}
	e.daemons = append(e.daemons, d)
	go func() { _ = d.Wait(); close(d.ended) }()
	return nil
}

// await waits until the last daemon is ready.
func (e *Engine) await(ctx context.Context, ready func() bool) error {
	d := e.daemons[len(e.daemons)-1]
	for !ready() {
		select {
		case <-d.ended:
			return fmt.Errorf("%s ended at its start: %s", filepath.Base(d.Path), cmp.Or(lastLine(d.log), d.ProcessState.String()))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", filepath.Base(d.Path), context.Cause(ctx))
		case <-time.After(3 * time.Millisecond):
		}
	}
	return nil
}

// answers tries a socket, and what use makes of it.
func answers(ctx context.Context, socket string, use func(context.Context, net.Conn) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	defer conn.Close()
	return use == nil || use(ctx, conn)
}

// ping asks a Docker engine whether it is ready.
func ping(ctx context.Context, conn net.Conn) bool {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/_ping", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// lastLine is the end of what a daemon has said, without the decoration of its log.
func lastLine(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return lines[len(lines)-1]
}

// Close ends the engine, and every process of a build that it has left.
func (e *Engine) Close() {
	e.once.Do(func() {
		for i := len(e.daemons) - 1; i >= 0; i-- {
			d := e.daemons[i]
			_ = d.Process.Signal(syscall.SIGTERM)
			select {
			case <-d.ended:
			case <-time.After(stopTimeout):
				_ = d.Process.Kill()
				<-d.ended
			}
		}
		close(e.done)
		killProcesses(e.folder)
		removeBridge(e.folder)
		_ = os.RemoveAll(e.runFolder())
		_ = os.RemoveAll(filepath.Join(e.folder, "tmp"))
		_ = e.lock.Close()
	})
}

// maxEngines bounds the private engines that run at once on a host.
const maxEngines = 100

// claimFolder returns the first folder below root that no other run uses: 0, else 1, and
// so on. The lock ends with this process.
func claimFolder(root string) (folder string, lock *os.File, err error) {
	if err := ownFolder(root); err != nil {
		return "", nil, err
	}
	for i := range maxEngines {
		folder = filepath.Join(root, fmt.Sprint(i))
		lock, err = os.OpenFile(folder+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return "", nil, err
		}
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return folder, lock, ownFolder(folder)
		}
		_ = lock.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return "", nil, &fs.PathError{Op: "lock", Path: folder + ".lock", Err: err}
		}
	}
	return "", nil, fmt.Errorf("%d private engines run below %s already", maxEngines, root)
}

// clearOthers ends what killed runs have left in folders that nobody uses.
func clearOthers(root string) {
	locks, _ := filepath.Glob(filepath.Join(root, "*.lock"))
	for _, name := range locks {
		lock, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			folder := strings.TrimSuffix(name, ".lock")
			killProcesses(folder)
			removeBridge(folder)
		}
		_ = lock.Close()
	}
}

// ownFolder makes a folder that nobody else can write to, and takes no other for it.
func ownFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || !ok || int(owner.Uid) != os.Geteuid() || st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a folder that only this user can write to: remove it", path)
	}
	return nil
}
