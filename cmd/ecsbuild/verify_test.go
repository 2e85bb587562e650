package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// times is "times REPOSITORY TAG FILE": the time of every file of every layer,
// in seconds, and of the image.
func (s *stage) times(ts *testscript.TestScript, neg bool, args []string) {
	m, err := v1.ParseManifest(bytes.NewReader(s.rig.Manifest(awstest.Account, args[0], args[1])))
	ts.Check(err)
	config, err := s.blob(args[0], m.Config.Digest.String(), false)
	ts.Check(err)
	var cfg struct{ Created time.Time }
	ts.Check(json.Unmarshal(config, &cfg))
	var out strings.Builder
	fmt.Fprintln(&out, "created", cfg.Created.Unix())
	for i, l := range m.Layers {
		raw, err := s.blob(args[0], l.Digest.String(), true)
		ts.Check(err)
		for tr := tar.NewReader(bytes.NewReader(raw)); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			ts.Check(err)
			fmt.Fprintln(&out, i, h.Name, h.ModTime.Unix())
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(out.String()), 0o644))
}

// media is "media REPOSITORY TAG FILE": the types of a manifest, its config and
// its layers.
func (s *stage) media(ts *testscript.TestScript, neg bool, args []string) {
	m, err := v1.ParseManifest(bytes.NewReader(s.rig.Manifest(awstest.Account, args[0], args[1])))
	ts.Check(err)
	lines := []string{string(m.MediaType), string(m.Config.MediaType)}
	for _, l := range m.Layers {
		lines = append(lines, string(l.MediaType))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

// blobsOf returns the size of every layer and config of an image, by repository
// and digest.
func (s *stage) blobsOf(image string, into map[string]int64) error {
	repo, tag, _ := strings.Cut(image, ":")
	m, err := v1.ParseManifest(bytes.NewReader(s.rig.Manifest(awstest.Account, repo, tag)))
	if err != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	for _, d := range append(m.Layers, m.Config) {
		into[repo+" "+d.Digest.String()] = d.Size
	}
	return nil
}

// sentIs compares the bytes that were sent with those of images and of earlier runs.
func (s *stage) sentIs(images []string) error {
	now, before := map[string]int64{}, map[string]int64{}
	into := now
	for _, image := range images {
		if image == "since" {
			into = before
		} else if err := s.blobsOf(image, into); err != nil {
			return err
		}
	}
	var want int64
	for blob, size := range now {
		if _, ok := before[blob]; !ok {
			want += size
		}
	}
	if got := s.rig.Bytes(); got != want {
		return fmt.Errorf("%d bytes were sent, and what is new has %d", got, want)
	}
	return nil
}

// newHost [KIND [FLAG…]] starts another engine, of the same kind where none is given, which has seen
// nothing, and makes it the script's. PORT in a flag becomes a free port, and is that from then on.
func (s *stage) newHost(ts *testscript.TestScript, neg bool, args []string) {
	dir, err := os.MkdirTemp("", "ecsbuild-host-")
	ts.Check(err)
	ts.Defer(func() {
		_ = exec.Command("../../script/engine", "stop", filepath.Join(dir, "e")).Run()
		_ = os.RemoveAll(dir)
	})
	kind := s.kind
	var flags []string
	if len(args) > 0 {
		kind, flags = args[0], args[1:]
	}
	if slices.ContainsFunc(flags, func(f string) bool { return strings.Contains(f, "PORT") }) {
		port, err := freePort()
		ts.Check(err)
		ts.Setenv("PORT", port)
		for i := range flags {
			flags[i] = strings.ReplaceAll(flags[i], "PORT", port)
		}
	}
	cmd := exec.Command("../../script/engine", append([]string{"start", kind, filepath.Join(dir, "e")}, flags...)...)
	cmd.Env = append(os.Environ(), s.rig.Environ()...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		ts.Fatalf("script/engine start %s: %v\n%s", kind, err, stderr.String())
	}
	key, value, _ := strings.Cut(strings.TrimSpace(string(out)), "=")
	ts.Setenv(key, value)
	ts.Setenv("ECSBUILD_CACHE", filepath.Join(dir, "cache"))
}

// freePort is a port of loopback that nothing listens on, and that the kernel hands out to nobody.
func freePort() (port string, err error) {
	for range 100 {
		var l net.Listener
		port = strconv.Itoa(20_000 + rand.IntN(8_000))
		if l, err = net.Listen("tcp4", "127.0.0.1:"+port); err == nil {
			return port, l.Close()
		}
	}
	return "", err
}

// builtOn compares the layers of two images, as they are unpacked, of each platform.
func (s *stage) builtOn(repo, tag, base, baseTag string) error {
	own, err := s.diffIDs(repo, tag)
	if err != nil {
		return err
	}
	below, err := s.diffIDs(base, baseTag)
	if err != nil {
		return err
	}
	for platform, layers := range own {
		under := below[platform]
		if len(under) == 0 || len(layers) <= len(under) || !slices.Equal(layers[:len(under)], under) {
			return fmt.Errorf("%s: %s:%s has the layers\n%s\nand %s:%s\n%s", platform, repo, tag, strings.Join(layers, "\n"),
				base,
				baseTag, strings.Join(under, "\n"))
		}
	}
	return nil
}

// diffIDs are those of an image's layers, by platform.
func (s *stage) diffIDs(repo, reference string) (map[string][]string, error) {
	out := map[string][]string{}
	data := s.rig.Manifest(awstest.Account, repo, reference)
	if index, err := v1.ParseIndexManifest(bytes.NewReader(data)); err == nil && len(index.Manifests) > 0 {
		for _, m := range index.Manifests {
			child, err := s.diffIDs(repo, m.Digest.String())
			if err != nil {
				return nil, err
			}
			maps.Copy(out, child)
		}
		return out, nil
	}
	m, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s:%s: %w", repo, reference, err)
	}
	var cfg struct {
		Architecture string
		RootFS       struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	raw, err := s.blob(repo, m.Config.Digest.String(), false)
	if err == nil {
		err = json.Unmarshal(raw, &cfg)
	}
	out[cfg.Architecture] = cfg.RootFS.DiffIDs
	return out, err
}

// damage cuts the layers of an image, or of a cache, off in the registry.
func (s *stage) damage(repo, tag string) error {
	m, err := v1.ParseManifest(bytes.NewReader(s.rig.Manifest(awstest.Account, repo, tag)))
	if err != nil {
		return fmt.Errorf("%s:%s: %w", repo, tag, err)
	}
	for _, l := range m.Layers {
		if err := s.rig.Damage(awstest.Account, repo, digest.Digest(l.Digest.String()), l.Size/2); err != nil {
			return err
		}
	}
	return nil
}

// hasNo looks for a secret in everything that was pushed.
func (s *stage) hasNo(text string) error {
	return filepath.WalkDir(filepath.Join(s.rig.Dir, "ecr"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		var r io.Reader = f
		if z, err := gzip.NewReader(f); err == nil {
			r = z
		} else if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if strings.Contains(string(data), text) {
			return fmt.Errorf("%s holds the secret", path)
		}
		return nil
	})
}

// verify is "verify REPOSITORY TAG": every layer in the registry unpacks to
// the diffID that the image's config names, in order; and on the classic store
// that config is the engine's own, since an image is called by it; but where its
// layers were made again ("verify REPOSITORY TAG recompressed") or another engine has built it ("… elsewhere").
func (s *stage) verify(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: verify REPOSITORY TAG [recompressed|elsewhere]")
	}
	ts.Check(s.checkImage(args[0], args[1]))
	if len(args) > 2 || !slices.Contains(classicKinds, s.kind) {
		return
	}
	ts.Check(ts.Exec("docker", "image", "inspect", "--format", "{{.Id}}",
		s.rig.Host(awstest.Account)+"/"+args[0]+":"+args[1]))
	m, err := v1.ParseManifest(bytes.NewReader(s.rig.Manifest(awstest.Account, args[0], args[1])))
	ts.Check(err)
	if id := strings.TrimSpace(ts.ReadFile("stdout")); id != m.Config.Digest.String() {
		ts.Fatalf("the engine's image is %s, the registry's %s", id, m.Config.Digest)
	}
}

func (s *stage) checkImage(repo, tag string) error {
	data := s.rig.Manifest(awstest.Account, repo, tag)
	if data == nil {
		return fmt.Errorf("%s has no tag %s", repo, tag)
	}
	m, err := v1.ParseManifest(strings.NewReader(string(data)))
	if err != nil {
		return err
	}
	var cfg struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	raw, err := s.blob(repo, m.Config.Digest.String(), false)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return err
	}
	if len(cfg.RootFS.DiffIDs) != len(m.Layers) || len(m.Layers) == 0 {
		return fmt.Errorf("%d diffIDs and %d layers", len(cfg.RootFS.DiffIDs), len(m.Layers))
	}
	for i, l := range m.Layers {
		if packed, err := s.blob(repo, l.Digest.String(), false); err != nil || int64(len(packed)) != l.Size {
			return fmt.Errorf("layer %d has %d bytes, the manifest says %d: %v", i, len(packed), l.Size, err)
		}
		raw, err := s.blob(repo, l.Digest.String(), true)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		if got := "sha256:" + hex.EncodeToString(sum[:]); got != cfg.RootFS.DiffIDs[i] {
			return fmt.Errorf("layer %d is %s, the config has %s", i, got, cfg.RootFS.DiffIDs[i])
		}
	}
	return nil
}

// blob reads a blob from the rig's registry without asking IAM.
func (s *stage) blob(repo, digest string, unzip bool) ([]byte, error) {
	rec := httptest.NewRecorder()
	s.rig.Blobs(awstest.Account).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v2/"+repo+"/blobs/"+digest, nil))
	if rec.Code != http.StatusOK {
		return nil, fmt.Errorf("blob %s of %s: status %d", digest, repo, rec.Code)
	}
	if !unzip {
		return rec.Body.Bytes(), nil
	}
	if bytes.HasPrefix(rec.Body.Bytes(), []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		z, err := zstd.NewReader(rec.Body)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return io.ReadAll(z)
	}
	z, err := gzip.NewReader(rec.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
