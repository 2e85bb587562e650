// Package artifact keeps the files that a run leaves on disk: definitions, the
// report and the exported variables.
//
// A file that exists is replaced only when its content shows that an earlier run
// wrote it, so that a name given by mistake never costs a source file. A link is
// written through, as a shell's > does.
package artifact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/ecsbuild/ecsbuild/internal/atomicfile"
	"github.com/ecsbuild/ecsbuild/internal/part"
)

// A Kind is what a file holds.
type Kind string

// The kinds of files that a run writes.
const (
	Definitions Kind = "definitions file" // imagedefinitions.json or imageDetail.json
	Exports     Kind = "exports file"     // shell variables
	Report      Kind = "report"           // HTML or JSON
	Part        Kind = "part"             // of a build: see package part
)

// A File is one output of a run.
type File struct {
	Path string // absolute
	Kind Kind
	Flag string // what names it: "--exports", or "definitions" of the configuration
}

// A ForeignError is a file that exists and that no earlier run has written.
type ForeignError struct{ File File }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s already exists, and is not a %s of an earlier run", e.File.Path, e.File.Kind)
}

// An Error is a file of the run that cannot be written.
type Error struct {
	File  string
	Early bool // found before anything was built
	Late  bool // found when every image was in the registry under its tags
	Err   error
}

func (e *Error) Error() string { return e.File + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// maxRead bounds what is read of a file to recognise it, in bytes.
const maxRead = 64 << 20

// Check says whether the file may be removed and written: a *ForeignError for
// content that is not ours. An empty file is accepted where mayBeEmpty says so.
func (f File) Check(mayBeEmpty bool) error {
	if strings.HasPrefix(f.Path, "/dev/") || strings.HasPrefix(f.Path, "/proc/") {
		return fmt.Errorf("%s is not a regular file", f.Path)
	}
	st, err := os.Stat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil // also a link to nothing; Try says what is in the way
	case err != nil:
		return err
	case st.IsDir():
		return fmt.Errorf("%s is a folder", f.Path)
	case !st.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", f.Path)
	case st.Size() == 0 && mayBeEmpty:
		return nil
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return &ForeignError{f} // it cannot be told
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxRead))
	if err != nil || !f.Kind.recognises(data) {
		return &ForeignError{f}
	}
	return nil
}

// exportLine is one that an exports file has.
var exportLine = regexp.MustCompile(`^export ECSBUILD_IMAGE_(URI|DIGEST)_[A-Z0-9_]+='[^']*'$`)

// Generator is how HTML and JSON reports say who wrote them.
const Generator = "ecsbuild"

// recognises says whether a run could have written such content.
func (k Kind) recognises(data []byte) bool {
	switch k {
	case Definitions:
		var list []struct{ Name, ImageURI *string }
		var detail struct{ ImageURI *string }
		if strict(data, &list) {
			for _, d := range list {
				if d.Name == nil || d.ImageURI == nil {
					return false
				}
			}
			return len(list) > 0 // a run writes none without a container
		}
		return strict(data, &detail) && detail.ImageURI != nil
	case Exports:
		lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		for _, l := range lines {
			if !exportLine.MatchString(l) {
				return false
			}
		}
		return true
	case Part:
		return part.IsPart(data)
	case Report:
		var report struct{ Generator string }
		head := data[:min(len(data), 4<<10)]
		return bytes.Contains(head, []byte(`<meta name="generator" content="`+Generator+`">`)) ||
			json.Unmarshal(data, &report) == nil && report.Generator == Generator
	}
	return false
}

// strict decodes JSON that has no other keys than into.
func strict(data []byte, into any) bool {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(into) != nil {
		return false
	}
	_, err := d.Token()
	return errors.Is(err, io.EOF)
}

// Remove takes the file of an earlier run away; none there is fine. What a link
// points at goes, and the link stays.
func (f File) Remove(mayBeEmpty bool) error {
	if err := f.Check(mayBeEmpty); err != nil {
		return err
	}
	path, err := Target(f.Path)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return err
}

// Try makes sure that Write will find a place, and leaves nothing.
func (f File) Try() error {
	path, err := Target(f.Path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	for { // Write makes the folders that are missing
		st, err := os.Stat(dir)
		if err == nil && !st.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	file, err := os.CreateTemp(dir, ".ecsbuild-*")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// Write puts data there in one step: a reader sees none, or the whole file. What
// has come there since the run began, and is not ours, stays.
func (f File) Write(data []byte) error {
	if err := f.Check(true); err != nil {
		return err
	}
	path, err := Target(f.Path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// The deploy stage runs as another user than the build.
	return atomicfile.Write(path, data, 0o644)
}

// maxLinks is what Linux allows.
const maxLinks = 40

// Target follows the links that path is and lies behind, also to a file that is not
// there, so that two names of one file have one target.
func Target(path string) (string, error) {
	for range maxLinks {
		link, err := os.Readlink(path)
		if err != nil {
			return filepath.Join(Folder(filepath.Dir(path)), filepath.Base(path)), nil // not a link
		}
		if !filepath.IsAbs(link) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return "", err
			}
			link = filepath.Join(dir, link)
		}
		path = link
	}
	return "", fmt.Errorf("%s: too many levels of links", path)
}

// Folder follows the links of a folder's path, as far as it is there.
func Folder(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	if parent := filepath.Dir(dir); parent != dir {
		return filepath.Join(Folder(parent), filepath.Base(dir))
	}
	return dir
}
