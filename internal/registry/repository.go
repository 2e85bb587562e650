package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/singleflight"
)

// A Repository takes the blobs and tags of one repository. Each digest is
// asked for once and sent once a run.
type Repository struct {
	Name string

	client *Client
	asks   singleflight.Group

	mu      sync.Mutex
	known   map[digest.Digest]int64         // blobs that are there, and their sizes in bytes
	absent  map[digest.Digest]bool          // blobs that were not, when the registry was asked
	pending map[digest.Digest]chan struct{} // blobs on their way
	ready   *upload                         // begun by Probe, for the first blob
}

// Repository returns the handle of a name; the same one each time.
func (c *Client) Repository(name string) *Repository {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.repos[name]
	if r == nil {
		r = &Repository{Name: name, client: c, known: map[digest.Digest]int64{}, absent: map[digest.Digest]bool{},
			pending: map[digest.Digest]chan struct{}{}}
		c.repos[name] = r
	}
	return r
}

func (r *Repository) url(path string) string {
	return fmt.Sprintf("%s://%s/v2/%s/%s", r.client.Host.scheme(), r.client.Host.Name, r.Name, path)
}

// Has asks whether a blob is there, and gives its size in bytes, -1 where the
// registry does not tell.
func (r *Repository) Has(ctx context.Context, d digest.Digest) (size int64, ok bool, err error) {
	if size, ok := r.lookup(d); ok {
		return size, true, nil
	}
	for {
		err = r.checkExistingBlob(ctx, d)
		var stopped *stoppedError
		if !errors.As(err, &stopped) {
			break
		}
		if err = stopped.error; ctx.Err() != nil {
			break
		}
	}
	size, ok = r.lookup(d)
	return size, ok, err
}

// stoppedError is a question whose asker was canceled: it is no answer for the others who
// wait for it.
type stoppedError struct{ error }

// checkExistingBlob sends the question once for all who have it at the moment. Its error is
// a *stoppedError where the one who asks for all was canceled.
func (r *Repository) checkExistingBlob(ctx context.Context, d digest.Digest) error {
	_, err, _ := r.asks.Do(d.String(), func() (any, error) {
		r.mu.Lock()
		_, there := r.known[d]
		asked := there || r.absent[d]
		r.mu.Unlock()
		if asked {
			return nil, nil
		}
		h, status, err := r.client.doDiscard(ctx, r.Name,
			request{action: actionHead, method: http.MethodHead, url: r.url("blobs/" + d.String()),
				accept: []int{http.StatusOK, http.StatusNotFound}})
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, &stoppedError{err}
		case err != nil:
		case status == http.StatusOK:
			n, perr := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
			if perr != nil {
				n = -1
			}
			r.add(d, n)
		default:
			r.mu.Lock()
			r.absent[d] = true
			r.mu.Unlock()
		}
		return nil, err
	})
	return err
}

func (r *Repository) lookup(d digest.Digest) (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	size, ok := r.known[d]
	return size, ok
}

func (r *Repository) add(d digest.Digest, size int64) {
	r.mu.Lock()
	r.known[d] = size
	r.mu.Unlock()
	r.client.mu.Lock()
	r.client.locations[d] = blobLocation{r.Name, size}
	r.client.mu.Unlock()
}

// Claim makes the caller the one who sends a blob, or waits for the one who
// does. there is true when the blob is in the repository; otherwise release
// must be called when it has been sent or given up.
func (r *Repository) Claim(ctx context.Context, d digest.Digest) (release func(), there bool, err error) {
	for {
		if _, ok, err := r.Has(ctx, d); err != nil || ok {
			return nil, ok, err
		}
		r.mu.Lock()
		if _, ok := r.known[d]; ok {
			r.mu.Unlock()
			continue
		}
		wait, busy := r.pending[d]
		if !busy {
			done := make(chan struct{})
			r.pending[d] = done
			r.mu.Unlock()
			return func() {
				r.mu.Lock()
				delete(r.pending, d)
				r.mu.Unlock()
				close(done)
			}, false, nil
		}
		r.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

// Put sends a blob unless it is there, from a body that can be opened again
// for another try.
func (r *Repository) Put(ctx context.Context, d digest.Digest, size int64, open func() (io.ReadCloser, error)) error {
	release, there, err := r.Claim(ctx, d)
	if err != nil || there {
		return err
	}
	defer release()
	r.mu.Lock()
	u := r.ready
	r.ready = nil
	r.mu.Unlock()
	return retry(ctx, func() error {
		if u == nil {
			if u, err = r.initiateUpload(ctx, d); err != nil || u == nil {
				return err
			}
		}
		this := u
		this.digest = d
		u = nil // another try begins another upload
		body, err := open()
		if err != nil {
			return err
		}
		err = this.streamBlob(ctx, body, size)
		_ = body.Close() // the transport is through with it
		if err != nil {
			return err
		}
		err = this.commit(ctx, d)
		var e *Error
		if errors.As(err, &e) && e.Status() != http.StatusNotFound {
			return permanentError{err} // commit has tried again by itself, without the blob
		}
		return err
	})
}

// Stream sends a body that can be read once and whose digest may not be known
// before its end; commit names it. want, where known, lets a sibling
// repository give the blob. Whoever gives the body tries again after an error.
func (r *Repository) Stream(ctx context.Context, want digest.Digest,
	body io.Reader) (commit func(context.Context, digest.Digest) error, err error) {
	var u *upload
	if err := retry(ctx, func() (err error) { u, err = r.initiateUpload(ctx, want); return err }); err != nil {
		return nil, err
	}
	if u == nil { // mounted
		_, err := io.Copy(io.Discard, body)
		return func(context.Context, digest.Digest) error { return nil }, err
	}
	u.digest = want
	if err := u.streamBlob(ctx, body, -1); err != nil {
		return nil, err
	}
	return u.commit, nil
}

// PutManifest puts a manifest under a tag or its own digest, in step with
// ECR's quota. It needs every blob and manifest that it names to be there.
func (r *Repository) PutManifest(ctx context.Context, reference, mediaType string, data []byte) error {
	err := retry(ctx, func() error {
		if !r.client.Host.Plain { // a registry on this machine has no quota
			if err := r.client.puts.wait(ctx); err != nil {
				return err
			}
		}
		resp, err := r.client.do(ctx, r.Name, request{action: actionPutImage, method: http.MethodPut,
			url: r.url("manifests/" + reference), contentType: mediaType, size: int64(len(data)),
			body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
			accept: []int{http.StatusCreated}})
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	})
	var e *Error
	if errors.As(err, &e) {
		e.Tag = reference
	}
	return err
}
