package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// A world is an engine, a rig, sources, and folders of a user: for the tests that are no scripts.
type world struct {
	*testing.T
	kind    string
	rig     *awstest.Rig
	folder  string // of the engine
	dir     string // holds src, home, tmp, and ecsbuild as a release has it
	environ []string
}

// soakKinds are the engines of a test that takes long: all of them with make soak, and a few without;
// "private" comes with CodeBuild's.
func soakKinds(t *testing.T, few ...string) []string {
	t.Helper()
	kinds := testEngines(t)
	if os.Getenv("ECSBUILD_SOAK") == "" {
		kinds = slices.DeleteFunc(kinds, func(k string) bool { return !slices.Contains(few, k) })
	}
	if slices.Contains(kinds, "codebuild") {
		kinds = append(kinds, "private")
	}
	return kinds
}

// newWorld starts an engine of a kind; "private" is a private one beside CodeBuild's.
func newWorld(t *testing.T, kind string) *world {
	t.Helper()
	w := &world{T: t, kind: kind, rig: startRig(t), dir: t.TempDir()}
	if out, err := exec.Command("make", "-s", "-C", "../..", "build",
		"OUT="+filepath.Join(w.dir, "ecsbuild")).CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	real := kind
	if kind == "private" {
		real = "codebuild"
	}
	address := startEngine(t, real, w.rig.Environ())
	_, socket, _ := strings.Cut(address, "://")
	w.folder = filepath.Dir(socket)
	for _, d := range []string{"src", "home", "tmp"} {
		if err := os.Mkdir(filepath.Join(w.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := os.Getenv("PATH")
	if kind == "private" {
		path = scriptEngine(t, "path", "codebuild") + string(os.PathListSeparator) + path
		w.environ = append(w.environ, "ECSBUILD_BUILDER=private")
	}
	w.environ = append(w.environ, "PATH="+path, "HOME="+filepath.Join(w.dir, "home"),
		"TMPDIR="+filepath.Join(w.dir, "tmp"), "ECSBUILD_CACHE="+filepath.Join(w.dir, "home", "cache"), address)
	w.environ = append(w.environ, w.rig.Environ()...)
	return w
}

// socket is where the engine listens.
func (w *world) socket() string {
	for _, kv := range w.environ {
		if _, path, ok := strings.Cut(kv, "_HOST=unix://"); ok {
			return path
		}
	}
	w.Fatal("the engine has no socket")
	return ""
}

// write puts a file among the sources.
func (w *world) write(name, text string) {
	w.Helper()
	write(w.T, filepath.Join(w.dir, "src", name), text)
}

// busybox puts Debian's static busybox there.
func (w *world) busybox() {
	w.Helper()
	data, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "src", "busybox"), data, 0o755)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// An ending is how a process has ended.
type ending struct {
	code           int
	took           time.Duration
	stdout, stderr string
}

// command is ecsbuild with arguments, among the sources.
func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(w.dir, "ecsbuild"), args...)
	cmd.Dir, cmd.Env = filepath.Join(w.dir, "src"), w.environ
	return cmd
}

// run runs ecsbuild. While it runs, meanwhile is called with its process, unless it is nil.
func (w *world) run(meanwhile func(*os.Process), args ...string) ending {
	w.Helper()
	var stdout, stderr bytes.Buffer
	cmd := w.command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	if meanwhile != nil {
		meanwhile(cmd.Process)
	}
	_ = cmd.Wait() // the code says all of it
	return ending{cmd.ProcessState.ExitCode(), time.Since(began), stdout.String(), stderr.String()}
}

// definitions returns the entries of imagedefinitions.json by container, nil for no file.
func (w *world) definitions() map[string]string {
	w.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, "src", "imagedefinitions.json"))
	if os.IsNotExist(err) {
		return nil
	}
	var entries []struct{ Name, ImageURI string }
	if err == nil {
		err = json.Unmarshal(data, &entries)
	}
	if err != nil {
		w.Fatalf("imagedefinitions.json: %v\n%s", err, data)
	}
	found := map[string]string{}
	for _, e := range entries {
		found[e.Name] = e.ImageURI
	}
	return found
}

// missing says what of an image is not in the registry, "" for nothing.
func (w *world) missing(repository, tag string) string {
	w.Helper()
	type blob struct{ Digest digest.Digest }
	var image struct {
		Config blob
		Layers []blob
	}
	text := w.rig.Manifest(awstest.Account, repository, tag)
	if err := json.Unmarshal(text, &image); err != nil || image.Config.Digest == "" {
		return fmt.Sprintf("the manifest of %s:%s: %q", repository, tag, text)
	}
	for _, b := range append(image.Layers, image.Config) {
		if !w.rig.Has(awstest.Account, repository, b.Digest.String()) {
			return fmt.Sprintf("a blob of %s:%s: %s", repository, tag, b.Digest)
		}
	}
	return ""
}

// docker returns the lines that docker prints, of the engine that the environment names.
func (w *world) docker(args ...string) []string {
	w.Helper()
	cmd := exec.Command("docker", args...)
	cmd.Env = w.environ
	out, err := cmd.Output()
	if err != nil {
		w.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// processes returns the command lines of all processes that hold a text.
func (w *world) processes(text string) (found []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if line, err := os.ReadFile(f); err == nil && bytes.Contains(line, []byte(text)) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// files lists a folder of the world, without its subfolders' contents.
func (w *world) files(name string) (found []string) {
	w.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, name))
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		found = append(found, e.Name())
	}
	return found
}
