package dockerpush

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

	"github.com/ecsbuild/ecsbuild/internal/image"
)

// doorUpload is one blob on its way.
type upload struct {
	sync.Mutex
	slot *session
	blob
}

// end gives the upload up.
func (u *upload) end() {
	u.Lock()
	defer u.Unlock()
	u.drop()
}

// blob takes what an engine sends: passing, or, under a recipe, remaking.
type blob interface {
	take(r *http.Request, s *session) error
	finish(ctx context.Context, s *session, want digest.Digest) error
	got() int64 // bytes so far
	drop()
}

// passing is a blob that goes on as it is: at first in memory, and straight to
// the sink once it has grown past smallBlob.
type forwardUpload struct {
	bytes  int64
	buf    bytes.Buffer
	commit func(context.Context, digest.Digest) error
}

func (u *forwardUpload) got() int64 { return u.bytes }
func (u *forwardUpload) drop()      {}

// smallBlob is the size below which an engine does not ask for the digests
// that it knows of a layer before it sends it, in bytes. Such a layer is taken
// into memory, and dropped when the registry has it.
const SmallBlob = 10 << 20

func (d *Proxy) initiateUpload(w http.ResponseWriter, slot *session) {
	id := rand.Text()
	u := &upload{slot: slot, blob: &forwardUpload{}}
	if slot.rewriter != nil {
		u.blob = &rewriteUpload{}
	}
	d.mu.Lock()
	d.uploads[id] = u
	d.mu.Unlock()
	slot.uploadAnswer(w, id, 0)
}

// uploadAnswer says where an upload goes on and how much of it is here: the
// engine writes that size into its manifest.
func (s *session) uploadAnswer(w http.ResponseWriter, id string, got int64) {
	w.Header().Set("Location", "/v2/"+s.path+"/blobs/uploads/"+id)
	w.Header().Set("Docker-Upload-UUID", id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, got-1)))
	w.WriteHeader(http.StatusAccepted)
}

func (d *Proxy) upload(w http.ResponseWriter, r *http.Request, slot *session, id string) {
	d.mu.Lock()
	u := d.uploads[id]
	if r.Method == http.MethodPut || r.Method == http.MethodDelete {
		delete(d.uploads, id)
	}
	d.mu.Unlock()
	if u == nil {
		writeError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
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
			writeError(w, http.StatusBadGateway, "UNKNOWN", "the upload broke off")
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
			writeError(w, http.StatusBadGateway, "UNKNOWN", "the upload could not be completed")
			return
		}
		w.Header().Set("Location", "/v2/"+slot.path+"/blobs/"+want.String())
		w.Header().Set("Docker-Content-Digest", want.String())
		w.WriteHeader(http.StatusCreated)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "not a request that a push makes")
	}
}

// take reads a body: into memory while it is small, then through to the sink.
func (u *forwardUpload) take(r *http.Request, s *session) error {
	r.Body = &countReader{r.Body, &u.bytes}
	if u.commit == nil {
		if _, err := io.CopyN(&u.buf, r.Body, int64(SmallBlob-u.buf.Len())+1); errors.Is(err, io.EOF) {
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

func (u *forwardUpload) finish(ctx context.Context, s *session, want digest.Digest) error {
	if u.commit != nil {
		return u.commit(ctx, want)
	}
	if s.rewritesConfig() && want == s.image {
		s.keepConfig(want, u.buf.Bytes())
		return nil
	}
	return image.PutBytes(ctx, s.sink, want, u.buf.Bytes())
}
