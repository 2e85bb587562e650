package cachemount

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// mount is a folder with what caches hold.
func mount(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o750), os.Mkdir(filepath.Join(dir, "empty"), 0o700))
	for i := range 300 {
		must(t, os.WriteFile(filepath.Join(dir, "a", fmt.Sprintf("f%03d", i)), bytes.Repeat([]byte{byte(i)}, i*10), 0o644))
	}
	must(t, os.WriteFile(filepath.Join(dir, "a/b/large"), bytes.Repeat([]byte("large "), smallFile/4), 0o755),
		os.Link(filepath.Join(dir, "a/b/large"), filepath.Join(dir, "a/twin")),
		os.Symlink("../f001", filepath.Join(dir, "a/b/link")), os.Symlink("/etc/passwd", filepath.Join(dir, "out")),
		os.Chtimes(filepath.Join(dir, "a/f001"), time.Unix(1, 5), time.Unix(1000, 123456789)),
		os.Chtimes(filepath.Join(dir, "a"), time.Unix(2000, 1), time.Unix(2000, 1)))
	return dir
}

func TestRoundTrip(t *testing.T) {
	dir := mount(t)
	var b bytes.Buffer
	packed, err := Pack(dir, &b, DefaultLimits)
	must(t, err)
	to := t.TempDir()
	must(t, Unpack(bytes.NewReader(b.Bytes()), to, DefaultLimits))
	got, err := List(to, DefaultLimits)
	must(t, err)
	if diff := cmp.Diff(packed, got); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"a/f299", "a/b/large", "a/twin"} {
		want, err1 := os.ReadFile(filepath.Join(dir, name))
		have, err2 := os.ReadFile(filepath.Join(to, name))
		must(t, err1, err2)
		if !bytes.Equal(want, have) {
			t.Errorf("%s differs", name)
		}
	}
	if link, err := os.Readlink(filepath.Join(to, "out")); err != nil || link != "/etc/passwd" {
		t.Errorf("%s, %v", link, err)
	}
	one, err1 := os.Stat(filepath.Join(to, "a/b/large"))
	two, err2 := os.Stat(filepath.Join(to, "a/twin"))
	must(t, err1, err2)
	if !os.SameFile(one, two) {
		t.Error("two names of one file are two files")
	}
	must(t, os.WriteFile(filepath.Join(to, "a/new"), nil, 0o644))
	if changed, err := List(to, DefaultLimits); err != nil || changed.Listing == packed.Listing {
		t.Errorf("a new file does not show: %v", err)
	}
}

func TestLimits(t *testing.T) {
	dir := mount(t)
	var limit *LimitError
	for _, l := range []Limits{{Bytes: 1000, Files: 1000}, {Bytes: 1 << 30, Files: 10}} {
		if _, err := Pack(dir, &bytes.Buffer{}, l); !errors.As(err, &limit) {
			t.Errorf("%+v: %v", l, err)
		}
		var b bytes.Buffer
		_, err := Pack(dir, &b, DefaultLimits)
		must(t, err)
		to := t.TempDir()
		if err := Unpack(&b, to, l); !errors.As(err, &limit) {
			t.Errorf("%+v: %v", l, err)
		}
		if left, err := os.ReadDir(to); err != nil || len(left) > 0 {
			t.Errorf("%+v: something is left: %v", l, err)
		}
	}
}

// archive is one of some headers, whose files hold their names.
func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	must(t, err)
	w := tar.NewWriter(z)
	for _, h := range headers {
		h.Mode = 0o644
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		must(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte(h.Name))
			must(t, err)
		}
	}
	must(t, w.Close(), z.Close())
	return b.Bytes()
}

// TestHostile: an archive that wants out, or that is broken, leaves nothing, neither in the
// folder nor beside it.
func TestHostile(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	whole := archive(t, file("a"), file("b"))
	for name, data := range map[string][]byte{
		"a path up":                 archive(t, file("../escaped")),
		"an absolute path":          archive(t, file("/tmp/ecsbuild-escaped")),
		"a path that comes back up": archive(t, file("a/../../escaped")),
		"a file below a link that leads out": archive(t, file("first"), tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ".."},
			file("l/escaped")),
		"a file over a link": archive(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../escaped"}, file("l")),
		"a link to a file outside": archive(t, file("a"), tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ".."},
			tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "l/outside"}),
		"a file twice": archive(t, file("a"), file("a")),
		"no zstd":      []byte("nonsense"),
		"cut off":      whole[:len(whole)-10],
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "mount")
			must(t, os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(parent, "outside"), nil, 0o600))
			if err := Unpack(bytes.NewReader(data), dir, DefaultLimits); err == nil {
				t.Error("it was unpacked")
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("something is left: %v", err)
			}
			if _, err := os.Lstat(filepath.Join(parent, "escaped")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it escaped: %v", err)
			}
		})
	}
	if _, err := os.Lstat("/tmp/ecsbuild-escaped"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it escaped")
	}
	dir := t.TempDir()
	must(t, Unpack(bytes.NewReader(archive(t, tar.Header{Typeflag: tar.TypeChar, Name: "device"}, file("a"))), dir, DefaultLimits))
	if _, err := os.Lstat(filepath.Join(dir, "device")); err == nil {
		t.Error("a device was made")
	}
}

// TestMainCommand packs what has changed, and fills what is empty.
func TestMainCommand(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"in", "out", "mounts"} {
		must(t, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	must(t, os.Rename(mount(t), filepath.Join(root, "mounts/0")), os.Mkdir(filepath.Join(root, "mounts/1"), 0o755))
	pack := func(listings ...string) (results []Result) {
		t.Helper()
		must(t, os.RemoveAll(filepath.Join(root, "out")), os.Mkdir(filepath.Join(root, "out"), 0o755))
		must(t, run(PackArgs("once", listings)[1:], root))
		for n := range listings {
			data, err := os.ReadFile(filepath.Join(root, "out", ResultName(n)))
			must(t, err)
			var r Result
			must(t, json.Unmarshal(data, &r))
			results = append(results, r)
		}
		return results
	}
	first := pack("", "")
	if !first[0].Packed || first[0].Files < 300 || first[1].Packed {
		t.Errorf("%+v", first)
	}
	must(t, os.Rename(filepath.Join(root, "out", ArchiveName(0)), filepath.Join(root, "in", ArchiveName(0))),
		os.WriteFile(filepath.Join(root, "in", ArchiveName(1)), nil, 0o644))
	if again := pack(first[0].Listing, ""); again[0].Packed {
		t.Errorf("packed again: %+v", again)
	}
	must(t, os.WriteFile(filepath.Join(root, "mounts/0/theirs"), nil, 0o644), run(UnpackArgs("once")[1:], root))
	if now := pack(first[0].Listing, ""); !now[0].Packed {
		t.Error("a mount that held something was filled")
	}
	must(t, os.RemoveAll(filepath.Join(root, "mounts/0")), os.Mkdir(filepath.Join(root, "mounts/0"), 0o755),
		run(UnpackArgs("once")[1:], root))
	if back := pack(first[0].Listing, ""); back[0].Packed || back[0].Listing != first[0].Listing {
		t.Errorf("%+v, want what was packed: %+v", back[0], first[0])
	}
	for _, args := range [][]string{nil, {"pack"}, {"unpack"}, {"other", "once"}} {
		if err := run(args, root); err == nil || !strings.Contains(err.Error(), "inside of a build") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// TestFill: a mount is filled once, whole or not at all, whoever else tries and whoever is
// killed meanwhile.
func TestFill(t *testing.T) {
	var b bytes.Buffer
	packed, err := Pack(mount(t), &b, DefaultLimits)
	must(t, err)
	fill := func(dir string) bool {
		t.Helper()
		filled, err := Fill(bytes.NewReader(b.Bytes()), dir, DefaultLimits)
		must(t, err)
		return filled
	}
	dir := t.TempDir()
	if !fill(dir) || fill(dir) {
		t.Error("it is filled twice, or never")
	}
	if got, err := List(dir, DefaultLimits); err != nil || got != packed {
		t.Errorf("%+v, %v, want %+v", got, err, packed)
	}

	killed := t.TempDir() // while it unpacked
	must(t, os.MkdirAll(filepath.Join(killed, staging, "a"), 0o700))
	if got, err := List(killed, DefaultLimits); err != nil || got.Files != 0 {
		t.Errorf("a part of an archive is packed: %+v, %v", got, err)
	}
	if !fill(killed) {
		t.Error("what a killed step has left counts as filled")
	}
	if got, err := List(killed, DefaultLimits); err != nil || got != packed {
		t.Errorf("%+v, %v, want %+v", got, err, packed)
	}

	moving := t.TempDir() // with some files in their place, and others not
	must(t, os.Mkdir(filepath.Join(moving, staged), 0o700),
		Unpack(bytes.NewReader(b.Bytes()), filepath.Join(moving, staged), DefaultLimits))
	first, err := os.ReadDir(filepath.Join(moving, staged))
	must(t, err, os.Rename(filepath.Join(moving, staged, first[0].Name()), filepath.Join(moving, first[0].Name())))
	if !fill(moving) {
		t.Error("the rest is not moved")
	}
	if got, err := List(moving, DefaultLimits); err != nil || got != packed {
		t.Errorf("%+v, %v, want %+v", got, err, packed)
	}

	used := t.TempDir() // by a step of another build, while what a killed step has left is there
	must(t, os.MkdirAll(filepath.Join(used, staging, "a"), 0o700),
		os.WriteFile(filepath.Join(used, "mine"), []byte("x"), 0o600))
	if fill(used) {
		t.Error("a mount that is used is filled")
	}
	if left, err := os.ReadDir(used); err != nil || len(left) != 1 || left[0].Name() != "mine" {
		t.Errorf("%v, %v", left, err)
	}
	raced := t.TempDir() // a step makes what is being moved
	must(t, os.MkdirAll(filepath.Join(raced, staged, "npm", "ours"), 0o700),
		os.MkdirAll(filepath.Join(raced, staged, "other"), 0o700),
		os.MkdirAll(filepath.Join(raced, "npm", "theirs"), 0o700))
	if !fill(raced) {
		t.Error("the rest is not moved")
	}
	for name, want := range map[string]bool{"npm/theirs": true, "npm/ours": false, "other": true, staged: false} {
		if _, err := os.Stat(filepath.Join(raced, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}

	taken := t.TempDir() // by somebody who fills it: he is waited for
	lock, err := os.Open(taken)
	must(t, err, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	released := make(chan bool)
	go func() { time.Sleep(20 * time.Millisecond); close(released); _ = lock.Close() }()
	fill(taken)
	select {
	case <-released:
	default:
		t.Error("two fill one mount")
	}
	must(t, os.RemoveAll(taken), os.Mkdir(taken, 0o700))
	if _, err := Fill(strings.NewReader("nonsense"), taken, DefaultLimits); err == nil {
		t.Error("nonsense fills a mount")
	}
	if left, err := os.ReadDir(taken); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}
