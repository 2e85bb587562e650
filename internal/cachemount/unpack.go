package cachemount

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// Folders of a mount that is being filled. A step may be killed at any time.
const (
	staging = ".ecsbuild-filling" // holds a part of the archive
	staged  = ".ecsbuild-filled"  // holds all of it that is not in its place yet
)

// Fill fills a mount from an archive, unless it holds something. It waits for whoever fills it.
// filled says whether it has.
func Fill(r io.Reader, mount string, limits Limits) (filled bool, err error) {
	dir, err := os.Open(mount)
	if err != nil {
		return false, err
	}
	defer dir.Close() // and with it the lock ends
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return false, err
	}
	root, err := os.OpenRoot(mount)
	if err != nil {
		return false, err
	}
	defer root.Close()
	if err := root.RemoveAll(staging); err != nil { // of a step that was killed
		return false, err
	}
	if _, err := root.Lstat(staged); err == nil { // of another one
		return true, unstage(root)
	}
	if entries, err := dir.ReadDir(1); len(entries) > 0 || err != nil && !errors.Is(err, io.EOF) {
		return false, nil // an earlier build on this engine has filled it
	}
	if err := root.Mkdir(staging, 0o700); err != nil {
		return false, err
	}
	if err := Unpack(r, filepath.Join(mount, staging), limits); err != nil {
		return false, errors.Join(err, root.RemoveAll(staging))
	}
	if err := root.Rename(staging, staged); err != nil {
		return false, err
	}
	return true, unstage(root)
}

// unstage moves what is whole to its place. What a step of a build has made there meanwhile
// stays as it is.
func unstage(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), staged)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, missing := root.Lstat(e.Name()); missing == nil {
			continue
		}
		if err := root.Rename(path.Join(staged, e.Name()), e.Name()); err != nil {
			return err
		}
	}
	return root.RemoveAll(staged)
}

// Unpack fills an empty folder from an archive. Nothing is written outside of the folder,
// whatever the archive says; where it fails, the folder is empty again.
func Unpack(r io.Reader, dir string, limits Limits) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, empty(root))
		}
	}()
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(maxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	u := &unpacking{root: root, limits: limits}
	u.workers.SetLimit(2 * runtime.GOMAXPROCS(0))
	return errors.Join(u.read(tar.NewReader(z)), u.finish())
}

// maxWindow bounds the memory of a decompression, in bytes.
const maxWindow = 128 << 20

// unpacking is an archive on its way into a folder.
type unpacking struct {
	root    *os.Root
	limits  Limits
	workers errgroup.Group // write small files at once

	dirs  []*tar.Header // whose modes and times come last
	links []*tar.Header // to files that are written by then
}

func (u *unpacking) read(t *tar.Reader) error {
	var bytes int64
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if bytes += max(0, h.Size); bytes > u.limits.Bytes || n >= u.limits.Files {
			return &LimitError{u.limits}
		}
		name := path.Clean(h.Name)
		if !filepath.IsLocal(name) || name == "." {
			return fmt.Errorf("the archive has the path %q", h.Name)
		}
		h.Name = name
		if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := u.entry(h, t); err != nil {
			return err
		}
	}
}

func (u *unpacking) entry(h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		u.dirs = append(u.dirs, h)
		return u.root.MkdirAll(h.Name, 0o755)
	case tar.TypeSymlink:
		return errors.Join(u.root.Symlink(h.Linkname, h.Name), u.root.Lchown(h.Name, h.Uid, h.Gid))
	case tar.TypeLink:
		u.links = append(u.links, h)
		return nil
	case tar.TypeReg:
		if h.Size > smallFile {
			return u.file(h, r)
		}
		data := make([]byte, h.Size)
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		u.workers.Go(func() error { return u.file(h, bytes.NewReader(data)) })
		return nil
	}
	return nil // nothing else is packed
}

func (u *unpacking) file(h *tar.Header, r io.Reader) error {
	f, err := u.root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Chown(h.Uid, h.Gid), f.Chmod(h.FileInfo().Mode()), f.Close(),
		u.root.Chtimes(h.Name, h.ModTime, h.ModTime))
}

// finish waits for the small files, and does what takes all others to be there.
func (u *unpacking) finish() error {
	err := u.workers.Wait()
	for _, h := range u.links {
		if target := path.Clean(h.Linkname); filepath.IsLocal(target) {
			err = errors.Join(err, u.root.Link(target, h.Name))
		}
	}
	for i := len(u.dirs) - 1; i >= 0; i-- { // the inner ones first: to fill one changes its time
		h := u.dirs[i]
		err = errors.Join(err, u.root.Lchown(h.Name, h.Uid, h.Gid), u.root.Chmod(h.Name, h.FileInfo().Mode()),
			u.root.Chtimes(h.Name, h.ModTime, h.ModTime))
	}
	return err
}

// empty removes what is in a folder.
func empty(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		err = errors.Join(err, root.RemoveAll(e.Name()))
	}
	return err
}
