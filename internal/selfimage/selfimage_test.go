package selfimage

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

// TestWriteTar: the image holds this program, which its hash names.
func TestWriteTar(t *testing.T) {
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(WriteTar(w)) }()
	files := tar.NewReader(r)
	header, err := files.Next()
	if err != nil || "/"+header.Name != Path || header.Mode != 0o755 {
		t.Fatal(header, err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, files); err != nil {
		t.Fatal(err)
	}
	if want, err := Hash(); err != nil || hex.EncodeToString(h.Sum(nil)) != want {
		t.Errorf("%x, %s, %v", h.Sum(nil), want, err)
	}
	if _, err := files.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestCanRunOn(t *testing.T) {
	for _, platform := range []string{"windows/amd64", "linux/mips", ""} {
		if err := CanRunOn(platform); err == nil || !strings.HasPrefix(err.Error(), "this program is for "+runtime.GOOS) {
			t.Errorf("%q: %v", platform, err)
		}
	}
}
