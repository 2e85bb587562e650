// Package ociexport is the content store that BuildKit exports an image to, by the
// containerd content protocol: blobs go on to an image.Store as they come, and what the
// registry has never leaves the engine.
package ociexport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/layer"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// maxKept bounds the blobs that are taken into memory, in bytes: manifests and
// configs are below it (ECR takes manifests up to 4 MiB), larger layers pass
// straight through.
const maxKept = 4 << 20

// Store is the content store that BuildKit exports an image to. It answers
// "already exists" for what the registry has, so that it never leaves the
// engine, sends layers on while they come in, and keeps manifests and configs.
type Store struct {
	target    image.Store
	inputs    *fingerprint.Inputs
	encodings *encodings

	streams sync.WaitGroup // uploads and compressions that run

	mu   sync.Mutex
	kept map[digest.Digest][]byte
	err  error // the first failure of the target, more telling than what BuildKit makes of it
}

// Options are one image that BuildKit hands over.
type Options struct {
	Build        plan.Build
	Store        image.Store
	Bases        image.Bases         // nil for none
	Inputs       *fingerprint.Inputs // what the image says of itself; nil for nothing
	State        *hoststate.State
	Compressions chan struct{}          // bounds the layers that are compressed at once
	Required     map[digest.Digest]bool // layers that must come in any case
}

// New makes the store of one export.
func New(x Options) *Store {
	return &Store{target: x.Store, inputs: x.Inputs, encodings: newEncodings(x), kept: map[digest.Digest][]byte{}}
}

// Wait ends when the export has ended, and no upload of it runs any more.
func (s *Store) Wait() { s.streams.Wait() }

func (s *Store) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	return err
}

// Err is the first failure of the target, or nil.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Writer opens a blob for BuildKit to write.
func (s *Store) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	w := &writer{store: s, ctx: ctx, ref: o.Ref, desc: o.Desc, started: time.Now()}
	if o.Desc.Digest == "" {
		return w, nil
	}
	if s.remembered(ctx, o.Desc.Digest) {
		return nil, fmt.Errorf("%s was compressed again before: %w", o.Desc.Digest, errdefs.ErrAlreadyExists)
	}
	if o.Desc.Size <= maxKept || s.encodings.required[o.Desc.Digest] || s.encodings.level &&
		!s.encodings.ofBase(ctx, o.Desc.Digest) {
		return w, nil
	}
	release, there, err := s.target.Claim(ctx, o.Desc.Digest)
	if err != nil {
		return nil, s.fail(err)
	}
	if there {
		return nil, fmt.Errorf("%s is in the registry: %w", o.Desc.Digest, errdefs.ErrAlreadyExists)
	}
	w.release = release
	return w, nil
}

type writer struct {
	store   *Store
	ctx     context.Context // of the export
	ref     string
	desc    ocispec.Descriptor
	offset  int64
	started time.Time

	buf bytes.Buffer // a small blob

	pipe    *io.PipeWriter // a large one
	release func()
	done    chan struct{} // closed when the two below are known
	commit  func(context.Context, digest.Digest) error
	err     error
}

// startStream starts what the writes of a large blob feed: an upload, or, by the first
// bytes of a layer that is in another form, its compression.
func (w *writer) startStream(head []byte) {
	r, pipe := io.Pipe()
	w.pipe, w.done = pipe, make(chan struct{})
	again := w.release == nil || w.store.encodings.mustRecompress(w.ctx, w.desc.Digest, layer.CompressionOf(head))
	if again {
		w.releaseClaim() // another digest will be sent
	}
	// An export that ends leaves nobody to close its writers.
	stop := context.AfterFunc(w.ctx, func() { _ = pipe.CloseWithError(context.Cause(w.ctx)) })
	w.store.streams.Go(func() {
		defer stop()
		if again {
			w.err = w.store.recompress(w.ctx, w.desc.Digest, r)
		} else {
			w.commit, w.err = w.store.target.Stream(w.ctx, w.desc.Digest, r)
		}
		close(w.done)               // before a write fails, so that Close tells this failure from one of the engine
		_ = r.CloseWithError(w.err) // a write that still waits learns of it
	})
}

func (w *writer) Write(p []byte) (int, error) {
	if w.pipe == nil && w.desc.Digest != "" && w.desc.Size > maxKept && len(p) > 0 {
		w.startStream(p)
	}
	if w.pipe == nil {
		if w.buf.Len()+len(p) > maxKept {
			return 0, fmt.Errorf("blob %s is larger than it was announced", w.desc.Digest)
		}
		w.offset += int64(len(p))
		return w.buf.Write(p)
	}
	n, err := w.pipe.Write(p)
	w.offset += int64(n)
	return n, err
}

// Commit ends the blob; only then does the registry have it.
func (w *writer) Commit(ctx context.Context, size int64, expected digest.Digest, _ ...content.Opt) error {
	if expected == "" {
		expected = w.desc.Digest
	}
	if w.pipe == nil {
		data := w.buf.Bytes()
		if got := digest.FromBytes(data); got != expected {
			return fmt.Errorf("blob %s arrived as %s: %w", expected, got, errdefs.ErrFailedPrecondition)
		}
		if bytes.HasPrefix(data, []byte("{")) { // a manifest or config: a layer is never JSON
			w.store.mu.Lock()
			w.store.kept[expected] = data
			w.store.mu.Unlock()
			return nil
		}
		if w.store.encodings.mustRecompress(ctx, expected, layer.CompressionOf(data)) {
			return w.store.recompress(ctx, expected, bytes.NewReader(data))
		}
		err := w.store.target.Put(ctx, expected, int64(len(data)), func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data)), nil
		})
		if err != nil {
			return w.store.fail(err)
		}
		return nil
	}
	_ = w.pipe.Close()
	<-w.done
	err := w.err
	if err == nil && w.commit != nil {
		err = w.commit(ctx, expected)
	}
	w.releaseClaim()
	if err != nil {
		return w.store.fail(err)
	}
	return nil
}

func (w *writer) releaseClaim() {
	if w.release != nil {
		w.release()
		w.release = nil
	}
}

// Close returns up what was not committed; the registry forgets an upload that
// nobody completes. Only a failure from before is the target's own.
func (w *writer) Close() error {
	if w.pipe == nil {
		w.releaseClaim()
		return nil
	}
	select {
	case <-w.done:
		if w.err != nil {
			_ = w.store.fail(w.err)
		}
	default:
		_ = w.pipe.CloseWithError(context.Canceled)
		<-w.done
	}
	w.releaseClaim()
	return nil
}

func (w *writer) Digest() digest.Digest { return w.desc.Digest }

func (w *writer) Status() (content.Status, error) {
	return content.Status{Ref: w.ref, Offset: w.offset, Total: w.desc.Size, Expected: w.desc.Digest, StartedAt: w.started,
		UpdatedAt: w.started}, nil
}

// Truncate is asked for before a second try, which begins with a new writer.
func (w *writer) Truncate(size int64) error {
	if size != w.offset {
		return fmt.Errorf("a blob on its way cannot be cut to %d bytes: %w", size, errdefs.ErrUnavailable)
	}
	return nil
}

// The rest of content.Store: an export only writes.

func (s *Store) Info(_ context.Context, d digest.Digest) (content.Info, error) {
	return content.Info{}, fmt.Errorf("%s: %w", d, errdefs.ErrNotFound)
}

func (s *Store) ReaderAt(_ context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	return nil, fmt.Errorf("%s: %w", d.Digest, errdefs.ErrNotFound)
}

func (s *Store) Status(_ context.Context, ref string) (content.Status, error) {
	return content.Status{}, fmt.Errorf("%s: %w", ref, errdefs.ErrNotFound)
}

func (s *Store) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, errdefs.ErrNotImplemented
}

func (s *Store) Walk(context.Context, content.WalkFunc, ...string) error { return nil }
func (s *Store) Delete(context.Context, digest.Digest) error             { return nil }

func (s *Store) ListStatuses(context.Context, ...string) ([]content.Status, error) {
	return nil, nil
}

func (s *Store) Abort(context.Context, string) error { return nil }
