package ociexport

import (
	"encoding/base64"
	"testing"
)

// FuzzRoot: an engine's answer names a blob, or is refused.
func FuzzRoot(f *testing.F) {
	f.Add([]byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00","size":1}`))
	f.Add([]byte(`{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"x"}`))
	f.Add([]byte(`{"digest":"../../etc:passwd"}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		root, err := Root(map[string]string{"containerimage.descriptor": base64.StdEncoding.EncodeToString(data)})
		if err != nil {
			return
		}
		if err := New(Options{}).CopyFrom(t.Context(), dir, root); err == nil {
			t.Errorf("%v is not there", root)
		}
	})
}
