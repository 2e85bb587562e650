package layer

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
	"time"
)

// FuzzLayer: a layer is decompressed, and its times are clamped, or it is refused. What has been
// clamped stays as it is.
func FuzzLayer(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: "a", Mode: 0o644, Size: 3, ModTime: time.Unix(2e9, 0), Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}})
	_, _ = w.Write([]byte("abc"))
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../a"})
	_ = w.Close()
	f.Add(b.Bytes())
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, end, err := Decompress(bytes.NewReader(data)); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			end()
		}
		epoch := time.Unix(1e9, 0)
		var once, twice bytes.Buffer
		if clampTimes(&once, bytes.NewReader(data), epoch) != nil {
			return
		}
		err := clampTimes(&twice, bytes.NewReader(once.Bytes()), epoch)
		if err != nil || !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Errorf("%q, then %q, %v", once.Bytes(), twice.Bytes(), err)
		}
	})
}
