package cachemount

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"archive/tar"

	"github.com/klauspost/compress/zstd"
)

// FuzzUnpack: whatever an archive holds, nothing is written outside of the folder, and after a
// failure nothing is in it.
func FuzzUnpack(f *testing.F) {
	add := func(headers ...tar.Header) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			h.Mode = 0o4755
			_ = w.WriteHeader(&h)
			_, _ = io.WriteString(w, "12345"[:h.Size])
		}
		_ = w.Close()
		f.Add(b.Bytes())
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "d"}, tar.Header{Typeflag: tar.TypeReg, Name: "d/f", Size: 5},
		tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "d/f"})
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../outside"},
		tar.Header{Typeflag: tar.TypeReg, Name: "l/f", Size: 5})
	add(tar.Header{Typeflag: tar.TypeReg, Name: "../outside/f", Size: 5})
	limits := Limits{Bytes: 1 << 20, Files: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer
		z, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = z.Write(data)
		_ = z.Close()
		parent := t.TempDir()
		dir, outside := filepath.Join(parent, "mount"), filepath.Join(parent, "outside")
		must(t, os.Mkdir(dir, 0o755), os.Mkdir(outside, 0o755))
		err = Unpack(&b, dir, limits)
		for folder, want := range map[string]int{parent: 2, outside: 0} {
			if entries, rerr := os.ReadDir(folder); rerr != nil || len(entries) != want {
				t.Errorf("%s holds %v, %v", folder, entries, rerr)
			}
		}
		if st, serr := os.Stat(outside); serr != nil || st.Mode() != os.ModeDir|0o755 {
			t.Errorf("%v, %v", st, serr)
		}
		if entries, rerr := os.ReadDir(dir); err != nil && (rerr != nil || len(entries) > 0) {
			t.Errorf("%v: %v is left, %v", err, entries, rerr)
		}
	})
}
