package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ecsbuild": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
		"forward":  func() { forward(os.Args[1], os.Args[2]) },
	})
}

// kinds are the engines that script/engine can start.
// The engine that CodeBuild has comes first.
var kinds = []string{"codebuild", "debian", "classic", "containerd", "buildkitd"}

// classicKinds are those of the classic image store.
var classicKinds = []string{"codebuild", "debian", "classic"}

// Tests come in two rings. go test ./... needs no root, engine, browser or network; make
// test sets ECSBUILD_TEST_ENGINES and has everything run. Where the variable is set,
// nothing is skipped.

// testEngines are those of ECSBUILD_TEST_ENGINES.
func testEngines(t *testing.T) []string {
	env, set := os.LookupEnv("ECSBUILD_TEST_ENGINES")
	switch {
	case !set:
		t.Skip("needs real engines: make test, or ECSBUILD_TEST_ENGINES=codebuild")
	case strings.TrimSpace(env) == "":
		t.Fatal("ECSBUILD_TEST_ENGINES is set, and names no engine")
	}
	for _, k := range strings.Fields(env) {
		if !slices.Contains(kinds, k) {
			t.Fatalf("ECSBUILD_TEST_ENGINES names %q; the engines are %s", k, strings.Join(kinds, ", "))
		}
	}
	return strings.Fields(env)
}

// TestEngines runs the scripts of testdata/engine on a real engine of each
// kind. The scripts of one engine share its rig, whose address the engine has
// as its proxy, and so come one after the other.
func TestEngines(t *testing.T) {
	for _, kind := range testEngines(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			rig := startRig(t)
			addr := startEngine(t, kind, rig.Environ())
			runScripts(t, "testdata/engine", rig, kind, addr)
		})
	}
}

// TestFarEngine runs scripts on classic engines whose loopback is another one, as in a virtual
// machine: they reach the proxy by a relay, or, for those of testdata/far, not at all.
func TestFarEngine(t *testing.T) {
	for _, kind := range testEngines(t) {
		if !slices.Contains(classicKinds, kind) {
			continue // the others have no use for the proxy
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			netns := fmt.Sprintf("ecsbuild-%s-%d", kind, os.Getpid())
			if out, err := exec.Command("ip", "netns", "add", netns).CombinedOutput(); err != nil {
				t.Fatalf("ip netns add: %v: %s", err, out)
			}
			t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", netns).Run() })
			rig := startRig(t)
			shareRig(t, rig, netns)
			addr := startEngine(t, kind, rig.Environ(), "nsenter", "--net=/run/netns/"+netns)
			runScripts(t, "testdata/relay", rig, kind, addr)
			runScripts(t, "testdata/far", rig, kind, withoutContainers(t, addr))
		})
	}
}

// withoutContainers is the address of an engine that refuses to run any.
func withoutContainers(t *testing.T, engine string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ecsbuild-engine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	to.FlushInterval, to.Transport = -1, &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(engine, "DOCKER_HOST=unix://"))
		}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/containers/create") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"no containers here"}`)
			return
		}
		to.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return "DOCKER_HOST=unix://" + filepath.Join(dir, "s")
}

// shareRig has the rig heard on another network namespace's loopback, by way of
// a socket that both can reach.
func shareRig(t *testing.T, rig *awstest.Rig, netns string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "rig")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go handOn(l, "tcp", rig.Addr)
	if out, err := exec.Command("ip", "-n", netns, "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip link set lo up: %v: %s", err, out)
	}
	forward, err := exec.LookPath("forward")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", "--net=/run/netns/"+netns, forward, rig.Addr, socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// forward listens on an address, and hands every connection to a socket.
func forward(addr, socket string) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		panic(err)
	}
	handOn(l, "unix", socket)
}

func handOn(l net.Listener, network, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial(network, to)
			if err != nil {
				return
			}
			defer out.Close()
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			_, _ = io.Copy(in, out)
		}()
	}
}

// noEngine is the kind and the address of no engine.
const noEngine, nowhere = "none", "DOCKER_HOST=unix:///nonexistent/docker.sock"

// TestCommands runs the scripts that need no engine.
func TestCommands(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata/script", startRig(t), noEngine, nowhere)
}

// TestShells asks bash, zsh and fish for completions.
func TestShells(t *testing.T) {
	testEngines(t)
	t.Parallel()
	install(t, "shells")
	runScripts(t, "testdata/shells", startRig(t), noEngine, nowhere)
}

func startRig(t *testing.T) *awstest.Rig {
	t.Helper()
	rig, err := awstest.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rig.Close)
	return rig
}

var installing sync.Mutex

// install makes sure of what script/engine calls kind.
func install(t *testing.T, kind string) {
	t.Helper()
	installing.Lock() // apt has one lock, and fails where it cannot have it
	defer installing.Unlock()
	if out, err := exec.Command("../../script/engine", "install", kind).CombinedOutput(); err != nil {
		t.Fatalf("script/engine install %s: %v\n%s\nthis test needs it; ECSBUILD_TEST_ENGINES names the engines that you can have", kind, err, out)
	}
}

// startEngine returns the variable that names the engine's address.
func startEngine(t *testing.T, kind string, environ []string, wrapper ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ecsbuild-engine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return startEngineIn(t, dir, kind, environ, wrapper...)
}

// startEngineIn starts an engine in a folder, which must have a short path.
func startEngineIn(t *testing.T, dir, kind string, environ []string, wrapper ...string) string {
	t.Helper()
	engine, err := filepath.Abs("../../script/engine")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	install(t, kind)
	args := append(slices.Clone(wrapper), engine, "start", kind, filepath.Join(dir, "e"))
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), environ...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	t.Cleanup(func() {
		if out, err := exec.Command(engine, "stop", filepath.Join(dir, "e")).CombinedOutput(); err != nil {
			t.Errorf("script/engine stop: %v\n%s", err, out)
		}
	})
	if err != nil {
		t.Fatalf("script/engine start %s: %v\n%s", kind, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// act is where the runner of GitHub Actions is.
func act(t *testing.T) string {
	t.Helper()
	install(t, "act")
	return scriptEngine(t, "where", "act")
}

// scriptEngine is what script/engine prints.
func scriptEngine(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("../../script/engine", args...).Output()
	if err != nil {
		t.Fatalf("script/engine %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// serial keeps scripts that share an engine from running side by side.
type serial struct{ *testing.T }

func (serial) Parallel()       {}
func (s serial) Verbose() bool { return testing.Verbose() }

func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serial{t}) })
}

func runScripts(t *testing.T, dir string, rig *awstest.Rig, kind, engine string) {
	s := &stage{rig: rig, kind: kind}
	testscript.RunT(serial{t}, testscript.Params{
		Dir:           dir,
		UpdateScripts: os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			if err := rig.Reset(); err != nil {
				return err
			}
			home := filepath.Join(e.WorkDir, "home")
			if err := os.MkdirAll(home, 0o755); err != nil {
				return err
			}
			// Nothing of the caller's environment: a stray CONTAINER_NAME would change the plan.
			e.Vars = append(e.Vars, "HOME="+home, "ECSBUILD_CACHE="+filepath.Join(home, "cache"), engine, "ENGINE="+kind,
				"RIG="+rig.Addr)
			root, err := filepath.Abs("../..")
			if err != nil {
				return err
			}
			e.Vars = append(e.Vars, "SELF_DOCKERFILE="+filepath.Join(root, "Dockerfile"),
				"EXAMPLES="+filepath.Join(root, "examples"), "SCRIPT="+filepath.Join(root, "script"),
				"ACTION="+filepath.Join(root, "action.yml"), "BUILDSPEC="+filepath.Join(root,
					"buildspec.example.yml"), "CERTIFICATES=/etc/ssl/certs/ca-certificates.crt")
			if kind != noEngine {
				e.Vars = append(e.Vars, "ACT="+act(t), "PRIVATE_PATH="+scriptEngine(t, "path", kind))
			}
			e.Vars = append(e.Vars, rig.Environ()...)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "docker":
				return kind != "buildkitd", nil
			case "classicstore":
				return slices.Contains(classicKinds, kind), nil
			}
			if slices.Contains(kinds, cond) {
				return kind == cond, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"rig":       s.command,
			"busybox":   s.busybox,
			"binary":    binary,
			"sshkey":    sshkey,
			"collect":   collect,
			"golden":    s.golden,
			"verify":    s.verify,
			"times":     s.times,
			"newhost":   s.newHost,
			"codebuild": codebuild,

			"codebuildbatch": codebuildBatch,
			"release":        release,
			"media":          s.media,
		},
	})
}
