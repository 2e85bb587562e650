// Package part is the file that `ecsbuild run --part` leaves of some images of a plan, and what
// `ecsbuild merge` makes of several.
//
// The images of a part are whole in the registry, by their digests, and no tag names them. Its file
// says of which plan and commit they are, so that parts of different builds are not mixed, and holds
// their manifests, so that tags can be put without reading from the registry. A hash of the content
// tells a damaged file; it is no signature.
package part

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/image"
)

// A File is the content of one.
type File struct {
	Registry string   `json:"registry"`           // host
	Commit   string   `json:"commit,omitempty"`   // as the environment names it, or git; "" where nobody knows
	Checkout string   `json:"checkout,omitempty"` // git's commit, "" where there is none
	Plan     []string `json:"plan"`               // lines for people, of all that the whole build makes
	Images   []Image  `json:"images"`
}

// An Image is one of a part, or what the part has of it.
type Image struct {
	Name      string            `json:"name"`                // in the plan
	Platforms []string          `json:"platforms,omitempty"` // that were built; none for all
	Args      map[string]string `json:"args,omitempty"`      // Checksums of what it was built with
	Manifests []image.Manifest  `json:"manifests"`           // those that an index names first, the root last
}

// Checksums tell other values of build arguments from the same ones, most likely. They are too short
// to find a value by.
func Checksums(args map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range args {
		out[name] = digest.FromString(name + "=" + value).Encoded()[:4]
	}
	return out
}

// envelope is a File as it is written.
type envelope struct {
	Format  string          `json:"format"`
	Digest  digest.Digest   `json:"digest"` // of Content, without white space
	Content json.RawMessage `json:"content"`
}

const format = "ecsbuild part 1"

// Encode writes a part.
func Encode(f File) ([]byte, error) {
	content, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(envelope{format, digest.FromBytes(content), content})
	return append(data, '\n'), err
}

// IsPart says whether data could be a part of any version.
func IsPart(data []byte) bool { return bytes.HasPrefix(data, []byte(`{"format":"ecsbuild part `)) }

// Decode reads a part, and refuses one that is not whole.
func Decode(data []byte) (f File, err error) {
	var e envelope
	if !IsPart(data) {
		return f, errors.New("this is no file of ecsbuild run --part")
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return f, errors.New("the file is not whole")
	}
	if e.Format != format {
		return f, fmt.Errorf("another version of ecsbuild has written this (%q)", e.Format)
	}
	if digest.FromBytes(e.Content) != e.Digest {
		return f, errors.New("the file has changed since it was written")
	}
	if err := json.Unmarshal(e.Content, &f); err != nil {
		return f, errors.New("the file is not whole")
	}
	for _, img := range f.Images {
		if len(img.Manifests) == 0 {
			return f, fmt.Errorf("the file has no manifest of %s", img.Name)
		}
		for _, m := range img.Manifests {
			if digest.FromBytes(m.Data) != m.Digest {
				return f, fmt.Errorf("the file has a manifest of %s that is not %s", img.Name, m.Digest)
			}
		}
	}
	return f, nil
}

// maxSize bounds a file, in bytes.
const maxSize = 64 << 20

// Read reads a part from a file, or from a pipe as long as ctx lasts.
func Read(ctx context.Context, path string) (File, error) {
	type result struct {
		file File
		err  error
	}
	done := make(chan result, 1)
	go func() { // opening a pipe waits for its writer
		f, err := read(path)
		done <- result{f, err}
	}()
	select {
	case r := <-done:
		return r.file, r.err
	case <-ctx.Done():
		return File{}, context.Cause(ctx)
	}
}

func read(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = errors.New("this is no file of ecsbuild run --part")
	}
	if err != nil {
		return File{}, err
	}
	return Decode(data)
}
