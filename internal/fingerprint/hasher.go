package fingerprint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// Resolve returns the digest that an image's name has now.
type Resolve func(ctx context.Context, ref string) (digest.Digest, error)

// An UncacheableError says why what an image is made of cannot be known from here:
// it is built, then.
type UncacheableError struct{ Why string }

func (e *UncacheableError) Error() string { return e.Why }

func uncacheable(format string, args ...any) error {
	return &UncacheableError{fmt.Sprintf(format, args...)}
}

// Builder is what is asked of the engine that builds.
type Builder interface {
	// Platform is the one that it builds for unless told otherwise.
	Platform(ctx context.Context) (string, error)
	// LocalDigests are those that it knows of the image that it has of a name.
	LocalDigests(ctx context.Context, ref string) []string
	// HasSourcePolicy says that rules decide what the build takes for its sources.
	HasSourcePolicy() bool
}

// Hasher finds the inputs of images; what several share is found out once.
type Hasher struct {
	builder  Builder
	resolve  Resolve
	excluded []string
	times    ContentTimes
	platform *memo[string]
	folders  memo[string]
	bases    memo[digest.Digest]
}

// NewHasher makes one for a run on an engine. No context has what is excluded, as ContextFS
// takes it.
func NewHasher(b Builder, resolve Resolve, excluded []string) *Hasher {
	return &Hasher{builder: b, resolve: resolve, excluded: excluded, platform: &memo[string]{}}
}

// memo remembers results by key. All who ask for one key wait for one call; a call
// that its caller has canceled is no result.
type memo[T any] struct {
	mu    sync.Mutex
	calls map[string]*memoCall[T]
}

type memoCall[T any] struct {
	mu    sync.Mutex
	done  bool
	value T
	err   error
}

func (m *memo[T]) get(ctx context.Context, key string, f func() (T, error)) (T, error) {
	m.mu.Lock()
	if m.calls == nil {
		m.calls = map[string]*memoCall[T]{}
	}
	c := m.calls[key]
	if c == nil {
		c = &memoCall[T]{}
		m.calls[key] = c
	}
	m.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.done {
		c.value, c.err = f()
		c.done = ctx.Err() == nil
	}
	return c.value, c.err
}

// Of hashes what goes into an image: the files of its contexts that the build
// sees, with path, mode and link target, the Dockerfile, the digests of its
// base images, and every key that changes what is built; of secrets their
// names. file is the image's Dockerfile. Its error is an *UncacheableError where something cannot be known.
func (h *Hasher) Of(ctx context.Context, img plan.Image, file *dockerfile.File) (*Inputs, error) {
	b := img.Build
	switch {
	case h.builder.HasSourcePolicy():
		return nil, uncacheable("a source policy is set")
	case file == nil:
		return nil, uncacheable("its context is fetched by the build")
	case !file.Regular:
		return nil, uncacheable("%s is not a regular file", filepath.Base(file.Path))
	}
	sum := sha256.Sum256(file.Data)
	h.times.set(b.Dockerfile, sum[:])
	refs := file.References(b)
	if refs.Unknown != nil {
		return nil, &UncacheableError{refs.Unknown.Error()}
	}
	in := &Inputs{bases: map[string]string{}, pinned: refs.Pinned, builder: h.builder, times: &h.times,
		timeless: b.Reproducible}
	in.rehash = func(ctx context.Context) bool {
		again := &Hasher{builder: h.builder, resolve: in.resolve, platform: h.platform}
		found, err := again.Of(ctx, img, file)
		return err == nil && found.Hash == in.Hash
	}
	for _, ref := range refs.Names {
		d, err := h.bases.get(ctx, ref, func() (digest.Digest, error) { return h.resolve(ctx, ref) })
		if err != nil {
			return nil, uncacheable("the digest of its base image %s cannot be read: %v", ref, err)
		}
		in.bases[ref] = d.String()
	}
	ignored, err := h.ignorePatterns(b)
	if err != nil {
		return nil, err
	}
	folders := map[string]string{}
	if folders[ContextName], err = h.folder(ctx, b.Context, ignored); err != nil {
		return nil, err
	}
	contexts, agents := map[string]string{}, []string{} // as they are named: where they lie differs from host to host
	for name, dir := range b.AdditionalContexts {
		if plan.Remote(dir) {
			contexts[name] = dir // an image, which is among the bases
		} else if folders["+"+name], err = h.folder(ctx, dir, nil); err != nil {
			return nil, err
		}
	}
	for _, s := range b.SSH {
		id, _, _ := strings.Cut(s, "=")
		agents = append(agents, id)
	}
	targets := b.Platforms
	if len(targets) == 0 {
		p, err := h.platform.get(ctx, "", func() (string, error) { return h.builder.Platform(ctx) })
		if err != nil {
			return nil, uncacheable("the engine does not say what platform it builds for")
		}
		targets = []string{p}
	}
	secrets := map[string]string{}
	for id, s := range b.Secrets {
		secrets[id] = s.String()
	}
	epoch := int64(-1)
	if b.Reproducible {
		epoch = b.Epoch().Unix()
	}
	// The Dockerfile was read before the contexts: together they must be of one moment.
	if data, err := readRegular(file.Path); err != nil || !bytes.Equal(data, file.Data) {
		return nil, uncacheable("%s has changed since the run began", filepath.Base(file.Path))
	}
	// encoding/json writes maps in the order of their keys.
	all, err := json.Marshal([]any{"ecsbuild inputs 1", folders, file.Data, in.bases, targets, b.Target, b.Args, b.Labels,
		secrets,
		agents, b.Network, b.ExtraHosts, b.ShmSize, contexts, b.Compression, b.CompressionLevel, epoch})
	if err != nil {
		return nil, err
	}
	sum = sha256.Sum256(all)
	in.Hash = hex.EncodeToString(sum[:])
	return in, nil
}

// readRegular reads a file that is no link: BuildKit follows one within the folder
// alone, and may end elsewhere. Its error wraps fs.ErrNotExist where there is none.
func readRegular(file string) ([]byte, error) {
	st, err := os.Lstat(file)
	if err == nil && !st.Mode().IsRegular() {
		return nil, uncacheable("%s is not a regular file", filepath.Base(file))
	}
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, uncacheable("%s cannot be read", filepath.Base(file))
	}
	return data, nil
}

// ignorePatterns reads what BuildKit reads: the file beside the Dockerfile that
// has its name, else that of the context.
// https://docs.docker.com/build/concepts/context/#dockerignore-files
func (h *Hasher) ignorePatterns(b plan.Build) ([]string, error) {
	file := b.Dockerfile + ".dockerignore"
	data, err := readRegular(file)
	if errors.Is(err, fs.ErrNotExist) {
		file = filepath.Join(b.Context, ".dockerignore")
		data, err = readRegular(file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	h.times.set(file, sum[:])
	patterns, err := ignorefile.ReadAll(bytes.NewReader(data))
	if err != nil {
		return nil, uncacheable("its .dockerignore cannot be read")
	}
	return patterns, nil
}

// folder hashes the files of a folder, without what is ignored.
func (h *Hasher) folder(ctx context.Context, dir string, ignored []string) (string, error) {
	key, err := json.Marshal([]any{dir, ignored})
	if err != nil {
		return "", err
	}
	return h.folders.get(ctx, string(key), func() (string, error) {
		local, err := ContextFS(dir, h.excluded, nil)
		if err == nil {
			local, err = fsutil.NewFilterFS(local, &fsutil.FilterOpt{ExcludePatterns: ignored})
		}
		if err != nil {
			return "", uncacheable("%s cannot be read: %v", dir, err)
		}
		sum := sha256.New()
		err = local.Walk(ctx, "", func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			content, err := hashFile(sum, local, path, d)
			if content != nil {
				h.times.set(filepath.Join(dir, path), content)
			}
			return err
		})
		if err != nil {
			return "", uncacheable("%s cannot be read: %v", dir, err)
		}
		return hex.EncodeToString(sum.Sum(nil)), nil
	})
}

// hashFile writes one file as a build has it, neither times nor owners, and gives
// the SHA-256 of its content, nil where it has none.
func hashFile(w io.Writer, local fsutil.FS, path string, d fs.DirEntry) (content []byte, err error) {
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*fstypes.Stat)
	if !ok {
		return nil, fmt.Errorf("%s: no facts about the file", path)
	}
	head := []any{[]byte(path), st.Mode, st.Xattrs, st.Devmajor, st.Devminor}
	if info.Mode()&fs.ModeSymlink != 0 {
		head = append(head, []byte(st.Linkname))
	}
	if info.Mode().IsRegular() {
		f, err := local.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err != nil {
			return nil, err
		}
		content = sum.Sum(nil)
	}
	return content, json.NewEncoder(w).Encode(append(head, content))
}
