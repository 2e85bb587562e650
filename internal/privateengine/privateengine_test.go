package privateengine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// onPath puts programs on PATH, and nothing else.
func onPath(t *testing.T, programs map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

// TestFind names everything that is missing at once.
func TestFind(t *testing.T) {
	version := func(v string) string { return "echo Docker version " + v + ", build abc" }
	for name, tt := range map[string]struct {
		programs map[string]string
		want     []string
		not      string
	}{
		"nothing": {nil, []string{"dockerd is not on PATH", "containerd is not on PATH", "runc is not on PATH"}, "version"},
		"too old": {map[string]string{"dockerd": version("20.10.24+dfsg1"), "containerd": "", "runc": ""},
			[]string{"is 20.10.24+dfsg1, which has no containerd image store: it needs 24.0 or later"}, "PATH"},
		"no version": {map[string]string{"dockerd": "echo hello", "containerd": "", "runc": ""},
			[]string{`does not say its version: it says "hello"`}, "PATH"},
		"broken":     {map[string]string{"dockerd": "exit 3", "containerd": "", "runc": ""}, []string{"exit status 3"}, "PATH"},
		"no dockerd": {map[string]string{"containerd": "", "runc": ""}, []string{"dockerd is not on PATH"}, "containerd is"},
	} {
		t.Run(name, func(t *testing.T) {
			onPath(t, tt.programs)
			_, err := Find(t.Context(), "")
			if err == nil {
				t.Fatal("found")
			}
			for _, want := range append(tt.want, "a private engine cannot start here: ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), tt.not) {
				t.Errorf("%v\nhas %q", err, tt.not)
			}
		})
	}
}

func TestTooOld(t *testing.T) {
	for version, want := range map[string]bool{"28.5.2": false, "24.0.0-rc.1": false, "23.0.6": true, "20.10.24+dfsg1": true, "dev": false} {
		if got := tooOld(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// TestClaimFolder: runs at once have a folder each, and the next one takes the first again.
func TestClaimFolder(t *testing.T) {
	root := filepath.Join(t.TempDir(), "ecsbuild")
	claim := func() (string, *os.File) {
		folder, lock, err := claimFolder(root)
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Base(folder), lock
	}
	first, lock := claim()
	second, other := claim()
	_ = lock.Close()
	third, again := claim()
	_, _ = other.Close(), again.Close()
	if first != "0" || second != "1" || third != "0" {
		t.Errorf("%s, %s, %s", first, second, third)
	}
}

// TestClose is safe before anything has started, and twice.
func TestClose(t *testing.T) {
	folder, lock, err := claimFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{folder: folder, lock: lock, done: make(chan struct{})}
	if err := e.prepare(); err != nil {
		t.Fatal(err)
	}
	e.Close()
	e.Close()
	if _, err := os.Stat(e.runFolder()); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", e.runFolder(), err)
	}
}

// TestStartFails says in a daemon's own words why it did not start, and leaves no process.
func TestStartFails(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("daemons start in a mount namespace of their own, which needs root")
	}
	onPath(t, map[string]string{"containerd": "echo the disk is on fire >&2; exit 1"})
	path, err := filepath.Abs(filepath.Join(os.Getenv("PATH"), "containerd"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), &Needs{Containerd: path, Folder: t.TempDir()}, nil)
	if err == nil || !strings.Contains(err.Error(), "containerd ended at its start: the disk is on fire") {
		t.Errorf("%v", err)
	}
}

// TestConfig carries over how registries are reached, and nothing else.
func TestConfig(t *testing.T) {
	const own = `{"features":{"containerd-snapshotter":true}`
	for text, want := range map[string]string{
		"": own + "}", "nonsense": own + "}",
		`{"registry-mirrors": ["https://m"], "data-root": "/elsewhere", "features": {"buildkit": false}}`: own + `,"registry-mirrors":["https://m"]}`,
	} {
		file := filepath.Join(t.TempDir(), "daemon.json")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := config(file); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	if got, err := config("/nonexistent"); err != nil || string(got) != own+"}" {
		t.Errorf("%s, %v", got, err)
	}
}

// TestFindRelative: a dockerd of the sources is not run, whatever PATH says.
func TestFindRelative(t *testing.T) {
	onPath(t, nil)
	t.Chdir(t.TempDir())
	ran := filepath.Join(t.TempDir(), "ran")
	if err := os.Mkdir("bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("bin/dockerd", []byte("#!/bin/sh\n>"+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "bin")
	_, err := Find(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "dockerd is on PATH by a relative folder alone") {
		t.Error(err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it was run")
	}
}
