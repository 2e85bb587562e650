package layer

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// tarOf is a layer of one file, as it was changed at a time.
func tarOf(t *testing.T, at time.Time, pax map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	body := strings.Repeat("a line of the file\n", 1000)
	h := &tar.Header{Name: "etc/app.conf", Mode: 0o644, Size: int64(len(body)), ModTime: at, PAXRecords: pax,
		Format: tar.FormatPAX}
	if err := errors.Join(w.WriteHeader(h), write(w, body), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(w io.Writer, s string) error { _, err := io.WriteString(w, s); return err }

func compress(t *testing.T, e Encoding, data []byte) (Info, []byte) {
	t.Helper()
	l, err := e.Compress(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil || int64(len(out)) != l.Desc.Size || digest.FromBytes(out) != l.Desc.Digest {
		t.Fatalf("%d bytes of %d, %v", len(out), l.Desc.Size, err)
	}
	return l.Info, out
}

func TestEncodingOf(t *testing.T) {
	level := 9
	for _, tt := range []struct {
		build  plan.Build
		key    string
		custom bool
	}{
		{plan.Build{}, "gzip 5 -62135596800", false},
		{plan.Build{Compression: plan.Gzip}, "gzip 5 -62135596800", false},
		{plan.Build{Compression: plan.Zstd}, "zstd 3 -62135596800", true},
		{plan.Build{CompressionLevel: &level}, "gzip 9 -62135596800", true},
		{plan.Build{Reproducible: true, Args: map[string]string{"SOURCE_DATE_EPOCH": "100"}}, "gzip 5 100", true},
	} {
		e, custom := EncodingOf(tt.build)
		if e.Key() != tt.key || custom != tt.custom {
			t.Errorf("%+v: %q, %v", tt.build, e.Key(), custom)
		}
	}
}

// TestCompress: what goes in comes out, under the digests that are named, and each time
// as the same bytes.
func TestCompress(t *testing.T) {
	data := tarOf(t, time.Unix(1e9, 0), nil)
	for _, b := range []plan.Build{{}, {Compression: plan.Zstd}} {
		e, _ := EncodingOf(b)
		info, first := compress(t, e, data)
		if info.SourceDiffID != digest.FromBytes(data) || info.DiffID != info.SourceDiffID {
			t.Errorf("%s: %+v", e.Key(), info)
		}
		if _, second := compress(t, e, data); !bytes.Equal(first, second) {
			t.Errorf("%s: other bytes the second time", e.Key())
		}
		if c := CompressionOf(first); c != e.Compression {
			t.Errorf("%s: it looks like %q", e.Key(), c)
		}
		if c := CompressionOfMediaType(info.Desc.MediaType); c != e.Compression {
			t.Errorf("%s: its media type is %s", e.Key(), info.Desc.MediaType)
		}
		plain, end, err := Decompress(bytes.NewReader(first))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := io.ReadAll(plain); err != nil || !bytes.Equal(out, data) {
			t.Errorf("%s: other content: %v", e.Key(), err)
		}
		end()
	}
	plain, end, err := Decompress(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	if out, err := io.ReadAll(plain); err != nil || !bytes.Equal(out, data) || CompressionOf(data) != "" ||
		CompressionOfMediaType(ocispec.MediaTypeImageLayer) != "" {
		t.Errorf("what is not compressed changes: %v", err)
	}
	if _, _, err := Decompress(bytes.NewReader([]byte{0x1f, 0x8b, 0, 0})); err == nil {
		t.Error("a broken header is read")
	}
}

// TestCompressClampsTimes: no time is later than the epoch, and none earlier is changed.
func TestCompressClampsTimes(t *testing.T) {
	e, _ := EncodingOf(plan.Build{Reproducible: true, Args: map[string]string{"SOURCE_DATE_EPOCH": "1000000000"}})
	for at, want := range map[int64]int64{2_000_000_000: 1_000_000_000, 500_000_000: 500_000_000} {
		info, out := compress(t, e, tarOf(t, time.Unix(at, 500),
			map[string]string{"atime": "2000000001.5", "APP.note": "kept"}))
		if info.DiffID == info.SourceDiffID {
			t.Error("the tar is as it was")
		}
		plain, end, err := Decompress(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		h, err := tar.NewReader(plain).Next()
		end()
		if err != nil || h.ModTime.Unix() != want || !h.AccessTime.IsZero() || h.PAXRecords["APP.note"] != "kept" {
			t.Errorf("%+v, %v", h, err)
		}
	}
	if _, err := e.Compress(strings.NewReader("no tar at all, but long enough to be read as the beginning of one" +
		strings.Repeat("x", 1000))); err == nil {
		t.Error("what is no tar is clamped")
	}
}

// TestSpoolError names the folder that has no place for a layer.
func TestSpoolError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	t.Setenv("TMPDIR", dir)
	e, _ := EncodingOf(plan.Build{})
	_, err := e.Compress(strings.NewReader(""))
	var spool *SpoolError
	if !errors.As(err, &spool) || spool.Folder != dir || !errors.Is(err, os.ErrNotExist) ||
		!strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
}

// TestRewriteConfig: the diffIDs are those of the rewritten layers, and nothing is later
// than the epoch.
func TestRewriteConfig(t *testing.T) {
	e, _ := EncodingOf(plan.Build{Reproducible: true, Args: map[string]string{"SOURCE_DATE_EPOCH": "0"}})
	base, old, rewritten := digest.FromString("base"), digest.FromString("old"), digest.FromString("new")
	in := `{"created":"2026-01-01T00:00:00Z","config":{"Env":["A=1"]},"rootfs":{"type":"layers","diff_ids":["` + base.String() + `","` + old.String() + `"]},
		"history":[{"created":"1960-01-01T00:00:00Z"},{"created":"2026-01-01T00:00:00.5Z","comment":"c"}]}`
	out, err := e.RewriteConfig([]byte(in), []Info{{SourceDiffID: old, DiffID: rewritten}})
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Created string
		Config  struct{ Env []string }
		RootFS  struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		}
		History []struct{ Created, Comment string }
	}
	if err := json.Unmarshal(out, &c); err != nil {
		t.Fatal(err)
	}
	if c.Created != "1970-01-01T00:00:00Z" || c.RootFS.DiffIDs[0] != base || c.RootFS.DiffIDs[1] != rewritten ||
		c.Config.Env[0] != "A=1" ||
		c.History[0].Created != "1960-01-01T00:00:00Z" || c.History[1].Created != "1970-01-01T00:00:00Z" ||
		c.History[1].Comment != "c" {
		t.Errorf("%s", out)
	}
	plain, _ := EncodingOf(plan.Build{})
	if out, err := plain.RewriteConfig([]byte(in), nil); err != nil || string(out) != in {
		t.Errorf("without an epoch it changes: %v", err)
	}
	for _, broken := range []string{"", "[]", `{"rootfs":1}`, `{"rootfs":{},"history":1}`} {
		if _, err := e.RewriteConfig([]byte(broken), nil); err == nil {
			t.Errorf("%q is taken for a config", broken)
		}
	}
}

// TestManifest: an image with a layer that Docker's types have no name for is OCI's.
func TestManifest(t *testing.T) {
	config := []byte("{}")
	layers := []Info{{Desc: ocispec.Descriptor{MediaType: image.DockerLayer, Digest: digest.FromString("base"), Size: 4}}}
	for compression, want := range map[plan.Compression][2]string{
		plan.Gzip: {image.DockerManifest, image.DockerLayer},
		plan.Zstd: {ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageLayerGzip},
	} {
		e, _ := EncodingOf(plan.Build{Compression: compression})
		m, err := e.Manifest(config, layers)
		if err != nil {
			t.Fatal(err)
		}
		var c image.Contents
		if err := json.Unmarshal(m.Data, &c); err != nil {
			t.Fatal(err)
		}
		if m.MediaType != want[0] || c.Layers[0].MediaType != want[1] || c.Config.Digest != digest.FromBytes(config) ||
			m.Digest != digest.FromBytes(m.Data) {
			t.Errorf("%s: %s %s", compression, m.MediaType, m.Data)
		}
	}
	e, _ := EncodingOf(plan.Build{})
	if m, err := e.Manifest(config, nil); err != nil || !bytes.Contains(m.Data, []byte(`"layers": []`)) {
		t.Errorf("an image without layers: %s, %v", m.Data, err)
	}
}
