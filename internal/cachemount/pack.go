// Package cachemount packs and unpacks what RUN --mount=type=cache holds.
//
// It runs inside of a build: package builder mounts the same cache mounts in a step of its
// own, with this program as its command (Main), on any engine. An archive is a tar,
// compressed with zstd. What a mount holds is data of whatever a build has fetched: nothing
// in an archive leads out of the folder that it is unpacked into.
package cachemount

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Limits of what is packed, and of what is unpacked.
type Limits struct {
	Bytes int64 // of all files, uncompressed
	Files int
}

// DefaultLimits are those of a mount.
var DefaultLimits = Limits{Bytes: 4 << 30, Files: 1_000_000}

// A LimitError is a mount that holds too much.
type LimitError struct{ Limits Limits }

func (e *LimitError) Error() string {
	return fmt.Sprintf("it holds more than %d bytes or %d files", e.Limits.Bytes, e.Limits.Files)
}

// Summary is what a mount holds.
type Summary struct {
	Listing string `json:"listing"` // a hash of all paths, sizes, modes and times
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"` // of all files, uncompressed
}

// entry is one file of a mount.
type entry struct {
	path string // relative
	info fs.FileInfo
	link string // of a symbolic link
}

// list walks a folder, in order. Sockets, pipes and devices are left out.
func list(dir string, limits Limits) (entries []entry, s Summary, err error) {
	sum := sha256.New()
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil // another build that uses the mount has removed it
		}
		if err != nil || path == dir {
			return err
		}
		if path == filepath.Join(dir, staging) || path == filepath.Join(dir, staged) {
			return filepath.SkipDir // it is being filled, or was when a run was killed
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		e := entry{info: info}
		switch mode := info.Mode(); {
		case mode&fs.ModeSymlink != 0:
			if e.link, err = os.Readlink(path); err != nil {
				return nil // as above
			}
		case mode.IsRegular():
			s.Bytes += info.Size()
		case !mode.IsDir():
			return nil
		}
		s.Files++
		if s.Bytes > limits.Bytes || s.Files > limits.Files {
			return &LimitError{limits}
		}
		if e.path, err = filepath.Rel(dir, path); err != nil {
			return err
		}
		entries = append(entries, e)
		size, modified := info.Size(), info.ModTime().UnixNano()
		switch {
		case info.IsDir():
			size = 0 // it depends on the file system
		case e.link != "":
			modified = 0 // it is not put back
		}
		_, err = fmt.Fprintf(sum, "%q %v %d %d %q\n", e.path, info.Mode(), size, modified, e.link)
		return err
	})
	s.Listing = hex.EncodeToString(sum.Sum(nil))
	return entries, s, err
}

// List says what a mount holds.
func List(dir string, limits Limits) (Summary, error) {
	_, s, err := list(dir, limits)
	return s, err
}

// readAhead is how many files are read while earlier ones are written.
const readAhead = 64

// smallFile is up to what size a file is read whole, in bytes.
const smallFile = 1 << 20

// Pack writes an archive of a folder.
func Pack(dir string, w io.Writer, limits Limits) (Summary, error) {
	entries, s, err := list(dir, limits)
	if err != nil {
		return s, err
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		return s, err
	}
	t := tar.NewWriter(z)
	stop := make(chan struct{})
	defer close(stop)
	seen := map[[2]uint64]string{} // of files with several names
	for f := range readFiles(dir, entries, stop) {
		if f.err == nil {
			f.err = writeEntry(t, dir, f, seen)
		}
		if f.err != nil && !errors.Is(f.err, fs.ErrNotExist) { // a mount that another build uses changes
			return s, errors.Join(f.err, z.Close())
		}
	}
	return s, errors.Join(t.Close(), z.Close())
}

// A readFile is a file whose content, if it is small, has been read.
type readFile struct {
	entry
	data []byte
	err  error
}

// readFiles reads small files ahead, at once, and gives all of them in order.
func readFiles(dir string, entries []entry, stop <-chan struct{}) <-chan readFile {
	pending := make(chan chan readFile, readAhead)
	go func() {
		defer close(pending)
		for _, e := range entries {
			one := make(chan readFile, 1)
			select {
			case pending <- one:
			case <-stop:
				return
			}
			go func() {
				f := readFile{entry: e}
				if e.info.Mode().IsRegular() && e.info.Size() <= smallFile {
					f.data, f.err = readSmall(filepath.Join(dir, e.path))
				}
				one <- f
			}()
		}
	}()
	out := make(chan readFile)
	go func() {
		defer close(out)
		for one := range pending {
			select {
			case out <- <-one:
			case <-stop:
				return
			}
		}
	}()
	return out
}

// readSmall reads a file that was a small one when it was listed.
func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, smallFile))
}

func writeEntry(t *tar.Writer, dir string, f readFile, seen map[[2]uint64]string) error {
	h, err := tar.FileInfoHeader(f.info, f.link)
	if err != nil {
		return err
	}
	h.Name, h.Format = filepath.ToSlash(f.path), tar.FormatPAX // times to the nanosecond
	h.Uname, h.Gname = "", ""
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	regular := f.info.Mode().IsRegular()
	written := func() {}
	if st, ok := f.info.Sys().(*syscall.Stat_t); ok && regular && st.Nlink > 1 {
		key := [2]uint64{uint64(st.Dev), st.Ino}
		if first, ok := seen[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return t.WriteHeader(h)
		}
		written = func() { seen[key] = h.Name }
	}
	if !regular {
		return t.WriteHeader(h)
	}
	if f.info.Size() <= smallFile {
		h.Size = int64(len(f.data)) // it may have changed since
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		written()
		_, err = io.Copy(t, bytes.NewReader(f.data))
		return err
	}
	file, err := os.Open(filepath.Join(dir, f.path))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	written()
	_, err = io.CopyN(t, file, h.Size)
	return err
}
