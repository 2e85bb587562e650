package main

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// hubImages are what the Dockerfiles begin FROM, by their name on Docker Hub.
// They are made once a run and put into the rig's hub before each measurement,
// outside of its time.
type hubImages map[string]v1.Image

// makeHubImages compresses as the publishers of base images do, with the
// standard library's best level: so no engine that compresses such a layer
// again arrives at the digest that it was pulled under.
func makeHubImages(dir string) (hubImages, error) {
	sizes := map[string][]int{ // MB of each layer
		"library/base":    {40, 40, 40, 40, 40},
		"library/busybox": {0},
	}
	out := hubImages{}
	for repo, layers := range sizes {
		files := make([]string, len(layers))
		var g errgroup.Group
		for i, mb := range layers {
			files[i] = filepath.Join(dir, fmt.Sprintf("%s-%d.tar.gz", filepath.Base(repo), i))
			g.Go(func() error { return writeLayer(files[i], uint64(100+i), i == 0, mb*10) })
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		img := empty.Image
		for _, f := range files {
			layer, err := tarball.LayerFromFile(f)
			if err == nil {
				img, err = mutate.AppendLayers(img, layer)
			}
			if err != nil {
				return nil, err
			}
		}
		cfg, err := img.ConfigFile()
		if err != nil {
			return nil, err
		}
		cfg.OS, cfg.Architecture, cfg.Config.Env = "linux", "amd64", []string{"PATH=/bin"}
		if out[repo], err = mutate.ConfigFile(img, cfg); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// writeLayer has files of 100 kB, and in the first layer a shell.
func writeLayer(file string, seed uint64, shell bool, files int) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(z)
	add := func(h tar.Header, body []byte) {
		h.ModTime, h.Size = time.Unix(1700000000, 0), int64(len(body))
		if err == nil {
			err = w.WriteHeader(&h)
		}
		if err == nil {
			_, err = w.Write(body)
		}
	}
	if shell {
		var busybox []byte
		if busybox, err = os.ReadFile("/bin/busybox"); err != nil {
			return fmt.Errorf("%w; script/engine install debian brings it", err)
		}
		add(tar.Header{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755}, nil)
		add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, busybox)
		for _, n := range []string{"sh", "echo", "sleep"} {
			add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + n, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	f := newFiller(seed)
	for i := range files {
		add(tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/lib/%d/%d", seed, i), Mode: 0o644}, f.bytes(100_000))
	}
	for _, closed := range []interface{ Close() error }{w, z, out} {
		if e := closed.Close(); err == nil {
			err = e
		}
	}
	return err
}

// fill puts the images into the rig's hub, which a reset has emptied.
func (h hubImages) fill(rig *awstest.Rig) error {
	server := httptest.NewServer(rig.Hub())
	defer server.Close()
	for repo, img := range h {
		ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/" + repo + ":latest")
		if err != nil {
			return err
		}
		if err := remote.Write(ref, img); err != nil {
			return err
		}
	}
	return nil
}
