// Package imagedef writes the files that CodePipeline's ECS deploy actions read.
//
// https://docs.aws.amazon.com/codepipeline/latest/userguide/file-reference.html
package imagedef

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// MaxSize is what the ECS deploy action accepts, in bytes (100 KB).
const MaxSize = 100 * 1000

// A Definition names the image that a container of the task definition runs.
type Definition struct {
	Name     string `json:"name"`
	ImageURI string `json:"imageUri"`
}

// Encode gives imagedefinitions.json: a list in the order given, on one line.
func Encode(defs []Definition) ([]byte, error) {
	if defs == nil {
		defs = []Definition{} // an empty list, never null
	}
	return encode(defs)
}

// EncodeDetail gives imageDetail.json, which a blue/green deployment reads.
func EncodeDetail(uri string) ([]byte, error) {
	return encode(struct{ ImageURI string }{uri})
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("it would have %d bytes, and the deploy action reads at most %d: split the containers over several files under definitions", b.Len(), MaxSize)
	}
	return b.Bytes(), nil
}

// Write puts data at path in one step: a reader sees the old file, none, or
// the whole new one.
func Write(path string, data []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	// The deploy stage runs as another user than the build.
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Try makes sure that Write will find a place for path, and leaves nothing.
func Try(path string) error {
	dir := filepath.Dir(path)
	for { // those above it Write will make
		st, err := os.Stat(dir)
		if err == nil && !st.IsDir() {
			return fmt.Errorf("%s is no folder", dir)
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	f, err := os.CreateTemp(dir, ".ecsbuild-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Remove takes a file of an earlier run away; none there is fine.
func Remove(path string) error {
	st, err := os.Stat(path)
	link, lerr := os.Lstat(path)
	switch {
	case err == nil && st.IsDir():
		return fmt.Errorf("%s is a folder", path)
	case err == nil && !st.Mode().IsRegular(), lerr == nil && !link.Mode().IsRegular() && strings.HasPrefix(path, "/dev/"): // such as /dev/stdout
		return fmt.Errorf("%s is no file that a run could leave", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
