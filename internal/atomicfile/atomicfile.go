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
	f, err := openUnnamed(filepath.Dir(path))
	if err == nil {
		err = errors.Join(fill(f, data, mode), linkUnnamed(f, path), f.Close())
		if err == nil {
			return nil
		}
	}
	// A file is there, or this file system has no unnamed ones.
	f, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
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
