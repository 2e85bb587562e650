package image

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzManifest: what a registry or an engine calls a manifest or a config is changed, or refused.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:00","size":2},"layers":[]}`))
	f.Add([]byte(`{"config":{"Labels":{"a":"b"},"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":[]}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"config":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := Manifest{Data: data}
		if changed, err := m.WithKey("key", 1); err == nil && !json.Valid(changed.Data) {
			t.Errorf("%s", changed.Data)
		}
		_, _ = WithConfig(m, data)
		c, err := ParseConfig(data)
		if err != nil {
			return
		}
		once, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if c, err = ParseConfig(once); err != nil {
			t.Fatal(err)
		}
		if twice, err := c.Encode(); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s, then %s, %v", once, twice, err)
		}
	})
}
