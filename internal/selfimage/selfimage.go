// Package selfimage is this very program as an image FROM scratch, so that an engine can run it: in
// a step of a build, or in a container.
package selfimage

import (
	"archive/tar"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
)

// Path is where the program lies in the image.
const Path = "/ecsbuild"

// CanRunOn says why this program cannot run on an engine of a platform such as linux/amd64, or nil.
func CanRunOn(platform string) error {
	if own := runtime.GOOS + "/" + runtime.GOARCH; !strings.HasPrefix(platform+"/", own+"/") {
		return fmt.Errorf("this program is for %s, and the engine builds on %s", own, platform)
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("this program is linked dynamically: build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// Hash is that of the program: two of one hash are one program.
var Hash = sync.OnceValues(func() (string, error) {
	f, err := open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
})

func open() (*os.File, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// WriteTar writes the file system of the image.
func WriteTar(w io.Writer) error {
	f, err := open()
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := t.WriteHeader(&tar.Header{Name: strings.TrimPrefix(Path, "/"), Mode: 0o755, Size: st.Size()}); err != nil {
		return err
	}
	if _, err := io.Copy(t, f); err != nil {
		return err
	}
	return t.Close()
}
