package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// busyboxTar is a layer with Debian's static busybox as /bin/sh and a few
// names more, made once a test run.
var busyboxTar = sync.OnceValues(func() (string, error) {
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return "", fmt.Errorf("%w; script/engine install debian brings it", err)
	}
	out, err := os.CreateTemp("", "ecsbuild-busybox-*")
	if err != nil {
		return "", err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	add := func(h *tar.Header, body []byte) {
		h.ModTime, h.Size = time.Unix(1700000000, 0), int64(len(body))
		if err == nil {
			err = w.WriteHeader(h)
		}
		if err == nil {
			_, err = w.Write(body)
		}
	}
	add(&tar.Header{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755}, nil)
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, data)
	for _, n := range []string{"sh", "cat", "echo", "ls", "test", "sleep", "env", "mkdir", "dd"} {
		add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + n, Linkname: "busybox", Mode: 0o777}, nil)
	}
	file := filepath.Join(os.TempDir(), "ecsbuild-busybox.tar")
	return file, errors.Join(err, w.Close(), os.Rename(out.Name(), file))
})

// hubImage puts an image of busybox into the rig's Docker Hub, with a second
// layer of random bytes where size is not 0. It is compressed by the standard
// library's gzip, as no engine would do it.
func (s *stage) hubImage(repo string, size int) error {
	layers := []v1.Layer{}
	file, err := busyboxTar()
	if err != nil {
		return err
	}
	base, err := tarball.LayerFromFile(file)
	if err != nil {
		return err
	}
	layers = append(layers, base)
	if size > 0 {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		data := make([]byte, size)
		_, _ = rand.Read(data)
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: "large", Mode: 0o644, Size: int64(size)}),
			func() error { _, err := w.Write(data); return err }(), w.Close()); err != nil {
			return err
		}
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(b.Bytes())), nil
		}, tarball.WithCompressionLevel(gzip.BestCompression))
		if err != nil {
			return err
		}
		layers = append(layers, l)
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return err
	}
	cfg.OS, cfg.Architecture = "linux", "amd64"
	cfg.Config.Env = []string{"PATH=/bin"}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		return err
	}
	return s.withHub(repo, func(ref name.Reference) error { return remote.Write(ref, img) })
}

// withHub reaches the hub's store, which asks for nothing.
func (s *stage) withHub(repo string, f func(name.Reference) error) error {
	server := httptest.NewServer(s.rig.Hub())
	defer server.Close()
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/" + repo)
	if err != nil {
		return err
	}
	return f(ref)
}

// hasLayers checks that an image begins with a base image's layers of at least
// so many bytes, to the digest.
func (s *stage) hasLayers(repo, tag, base string, least int64) error {
	m, err := v1.ParseManifest(bytes.NewReader(s.rig.Manifest(awstest.Account, repo, tag)))
	if err != nil {
		return err
	}
	return s.withHub(base, func(ref name.Reference) error {
		img, err := remote.Image(ref)
		if err != nil {
			return err
		}
		b, err := img.Manifest()
		if err != nil {
			return err
		}
		for i, l := range b.Layers {
			if l.Size >= least && m.Layers[i].Digest != l.Digest {
				return fmt.Errorf("layer %d is %s, the base has %s", i, m.Layers[i].Digest, l.Digest)
			}
		}
		return nil
	})
}
