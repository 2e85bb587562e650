package main

import (
	"archive/tar"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// busyboxTar is a layer with Debian's static busybox as /bin/sh and a few
// names more, made once a test run.
var busyboxTar = sync.OnceValue(func() string {
	file := filepath.Join(os.TempDir(), "ecsbuild-busybox.tar")
	out, err := os.CreateTemp("", "ecsbuild-busybox-*")
	if err != nil {
		panic(err)
	}
	defer out.Close()
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		panic("script/engine install debian brings /bin/busybox: " + err.Error())
	}
	w := tar.NewWriter(out)
	add := func(h *tar.Header, body []byte) {
		h.ModTime, h.Size = time.Unix(1700000000, 0), int64(len(body))
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write(body); err != nil {
			panic(err)
		}
	}
	add(&tar.Header{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755}, nil)
	add(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, data)
	for _, n := range []string{"sh", "cat", "echo", "ls", "test", "sleep", "env", "mkdir", "dd"} {
		add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + n, Linkname: "busybox", Mode: 0o777}, nil)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	if err := os.Rename(out.Name(), file); err != nil {
		panic(err)
	}
	return file
})
