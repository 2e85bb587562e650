// Package atomicfile writes files in one step.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts data into a file: a reader sees the old content or the new, and never half
// of it, whatever ends the process. The folder must exist. After an error the old file
// is there, and nothing else.
func Write(path string, data []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if named, err := writeUnnamed(path, data, mode); named || err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	if err = errors.Join(fill(f, data, mode), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// writeUnnamed writes a file that gets its name when it is whole, so that not even SIGKILL
// leaves half of it. named is false where the file system has none of these, or where a file has
// come there meanwhile.
func writeUnnamed(path string, data []byte, mode fs.FileMode) (named bool, err error) {
	f, err := openUnnamed(filepath.Dir(path))
	if err != nil {
		return false, nil
	}
	if err = fill(f, data, mode); err == nil {
		named = linkUnnamed(f, path) == nil
	}
	return named, errors.Join(err, f.Close())
}

func fill(f *os.File, data []byte, mode fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return err
}
