package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/opencontainers/go-digest"
)

// doorUpload is one blob on its way.
type doorUpload struct {
	sync.Mutex
	slot *Slot
	blob
}

// end gives the upload up.
func (u *doorUpload) end() {
	u.Lock()
	defer u.Unlock()
	u.drop()
}

// blob takes what an engine sends: passing, or, under a recipe, remaking.
type blob interface {
	take(r *http.Request, s *Slot) error
	finish(ctx context.Context, s *Slot, want digest.Digest) error
	got() int64 // bytes so far
	drop()
}

// passing is a blob that goes on as it is: at first in memory, and straight to
// the sink once it has grown past smallBlob.
type passing struct {
	bytes  int64
	buf    bytes.Buffer
	commit func(context.Context, digest.Digest) error
}

func (u *passing) got() int64 { return u.bytes }
func (u *passing) drop()      {}

// smallBlob is the size below which an engine does not ask for the digests
// that it knows of a layer before it sends it, in bytes. Such a layer is taken
// into memory, and dropped when the registry has it.
const smallBlob = 10 << 20

func (d *Door) begin(w http.ResponseWriter, slot *Slot) {
	id := rand.Text()
	u := &doorUpload{slot: slot, blob: &passing{}}
	if slot.remake != nil {
		u.blob = &remaking{}
	}
	d.mu.Lock()
	d.uploads[id] = u
	d.mu.Unlock()
	slot.uploadAnswer(w, id, 0)
}

// uploadAnswer says where an upload goes on and how much of it is here: the
// engine writes that size into its manifest.
func (s *Slot) uploadAnswer(w http.ResponseWriter, id string, got int64) {
	w.Header().Set("Location", "/v2/"+s.path+"/blobs/uploads/"+id)
	w.Header().Set("Docker-Upload-UUID", id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, got-1)))
	w.WriteHeader(http.StatusAccepted)
}

func (d *Door) upload(w http.ResponseWriter, r *http.Request, slot *Slot, id string) {
	d.mu.Lock()
	u := d.uploads[id]
	if r.Method == http.MethodPut || r.Method == http.MethodDelete {
		delete(d.uploads, id)
	}
	d.mu.Unlock()
	if u == nil {
		doorError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
		return
	}
	u.Lock()
	defer u.Unlock()
	switch r.Method {
	case http.MethodDelete:
		u.drop()
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch, http.MethodPut:
		if err := u.take(r, slot); err != nil {
			slot.fail(err)
			doorError(w, http.StatusBadGateway, "UNKNOWN", "the upload broke off")
			return
		}
		if r.Method == http.MethodPatch {
			slot.uploadAnswer(w, id, u.got())
			return
		}
		want, err := digest.Parse(r.URL.Query().Get("digest"))
		if err == nil {
			err = u.finish(r.Context(), slot, want)
		}
		if err != nil {
			slot.fail(err)
			doorError(w, http.StatusBadGateway, "UNKNOWN", "the upload could not be completed")
			return
		}
		w.Header().Set("Location", "/v2/"+slot.path+"/blobs/"+want.String())
		w.Header().Set("Docker-Content-Digest", want.String())
		w.WriteHeader(http.StatusCreated)
	default:
		doorError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "not a request that a push makes")
	}
}

// take reads a body: into memory while it is small, then through to the sink.
func (u *passing) take(r *http.Request, s *Slot) error {
	r.Body = &countReader{r.Body, &u.bytes}
	if u.commit == nil {
		if _, err := io.CopyN(&u.buf, r.Body, int64(smallBlob-u.buf.Len())+1); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		head := u.buf.Bytes()
		u.buf = bytes.Buffer{}
		var err error
		u.commit, err = s.sink.Stream(r.Context(), "", io.MultiReader(bytes.NewReader(head), r.Body))
		return err
	}
	if n, err := io.Copy(io.Discard, r.Body); err != nil || n == 0 {
		return err
	}
	return errors.New("the engine sent a layer in several parts, and the door takes one")
}

type countReader struct {
	io.ReadCloser
	n *int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	*c.n += int64(n)
	return n, err
}

func (u *passing) finish(ctx context.Context, s *Slot, want digest.Digest) error {
	if u.commit != nil {
		return u.commit(ctx, want)
	}
	if s.rewrites() && want == s.image {
		s.keepConfig(want, u.buf.Bytes())
		return nil
	}
	return putBytes(ctx, s.sink, want, u.buf.Bytes())
}

func putBytes(ctx context.Context, sink Sink, want digest.Digest, data []byte) error {
	if got := digest.FromBytes(data); got != want {
		return fmt.Errorf("a blob arrived as %s and not as %s", got, want)
	}
	return sink.Put(ctx, want, int64(len(data)), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
}
