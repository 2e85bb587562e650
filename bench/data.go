package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// filler makes data that is the same in each run and that gzip makes about
// 45 % of: what application files and distributions come to on the average.
// Words from a small vocabulary compress, the noise between them does not.
type filler struct {
	rnd   *rand.Rand
	words [][]byte
}

func newFiller(seed uint64) *filler {
	f := &filler{rnd: rand.New(rand.NewPCG(seed, 1))}
	for range 2048 {
		w := make([]byte, 5+f.rnd.IntN(8))
		for i := range w[:len(w)-1] {
			w[i] = byte('a' + f.rnd.IntN(26))
		}
		w[len(w)-1] = ' '
		f.words = append(f.words, w)
	}
	return f
}

// bytes returns n of them.
func (f *filler) bytes(n int) []byte {
	var b bytes.Buffer
	b.Grow(n + 64)
	for b.Len() < n {
		for range 4 {
			i := min(f.rnd.IntN(len(f.words)), f.rnd.IntN(len(f.words))) // frequent words are more frequent
			b.Write(f.words[i])
		}
		v := f.rnd.Uint64()
		for s := 0; s < 48; s += 8 {
			b.WriteByte(byte(v >> s))
		}
	}
	return b.Bytes()[:n]
}

// tree writes count files of size bytes each below dir, in folders of fifty.
func (f *filler) tree(dir string, count, size int) error {
	for i := range count {
		file := filepath.Join(dir, fmt.Sprintf("d%02d", i/50), fmt.Sprintf("f%04d.txt", i))
		if err := write(file, f.bytes(size)); err != nil {
			return err
		}
	}
	return nil
}

func write(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}
