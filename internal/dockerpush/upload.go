package dockerpush

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/image"
)

// upload is one blob on its way from the engine.
type upload struct {
	sync.Mutex
	session *session
	blob
}

// end returns the upload up.
func (u *upload) end() {
	u.Lock()
	defer u.Unlock()
	u.drop()
}

// blob takes what an engine sends: forwardUpload, or, where layers are compressed here,
// rewriteUpload.
type blob interface {
	take(r *http.Request, s *session) error
	finish(ctx context.Context, s *session, want digest.Digest) error
	got() int64 // bytes so far
	drop()
}

// forwardUpload is a blob that goes on as it is: at first in memory, and straight to
// the store once it has grown past SmallBlob.
type forwardUpload struct {
	bytes  int64
	buf    bytes.Buffer
	commit func(context.Context, digest.Digest) error
}

func (u *forwardUpload) got() int64 { return u.bytes }
func (u *forwardUpload) drop()      {}

// SmallBlob is the size below which an engine does not ask for the digests
// that it knows of a layer before it sends it, in bytes. Such a layer is taken
// into memory, and dropped when the registry has it.
const SmallBlob = 10 << 20

func (p *proxy) initiateUpload(w http.ResponseWriter, s *session) {
	id := rand.Text()
	u := &upload{session: s, blob: &forwardUpload{}}
	if s.rewriter != nil {
		u.blob = &rewriteUpload{}
	}
	p.mu.Lock()
	p.uploads[id] = u
	p.mu.Unlock()
	s.uploadAnswer(w, id, 0, http.StatusAccepted)
}

// uploadAnswer says where an upload goes on and how much of it is here: the
// engine writes that size into its manifest.
func (s *session) uploadAnswer(w http.ResponseWriter, id string, got int64, code int) {
	w.Header().Set("Location", "/v2/"+s.path+"/blobs/uploads/"+id)
	w.Header().Set("Docker-Upload-UUID", id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, got-1)))
	w.WriteHeader(code)
}

func (p *proxy) upload(w http.ResponseWriter, r *http.Request, s *session, id string) {
	p.mu.Lock()
	u := p.uploads[id]
	p.mu.Unlock()
	if u == nil {
		writeError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
		return
	}
	u.Lock()
	defer u.Unlock()
	switch r.Method {
	case http.MethodGet:
		s.uploadAnswer(w, id, u.got(), http.StatusNoContent)
	case http.MethodDelete:
		p.forget(id)
		u.drop()
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch, http.MethodPut:
		if start, _, ok := strings.Cut(r.Header.Get("Content-Range"), "-"); ok && start != strconv.FormatInt(u.got(), 10) {
			s.uploadAnswer(w, id, u.got(), http.StatusRequestedRangeNotSatisfiable)
			return
		}
		if r.Method == http.MethodPut {
			p.forget(id)
		}
		if err := u.take(r, s); err != nil {
			s.fail(err)
			writeError(w, http.StatusBadGateway, "UNKNOWN", "the upload was interrupted")
			return
		}
		if r.Method == http.MethodPatch {
			s.uploadAnswer(w, id, u.got(), http.StatusAccepted)
			return
		}
		want, err := digest.Parse(r.URL.Query().Get("digest"))
		if err != nil {
			writeError(w, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
			return
		}
		if err := u.finish(r.Context(), s, want); err != nil {
			s.fail(err)
			if wrong := (&image.DigestError{}); errors.As(err, &wrong) {
				writeError(w, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
				return
			}
			writeError(w, http.StatusBadGateway, "UNKNOWN", "the upload could not be completed")
			return
		}
		w.Header().Set("Location", "/v2/"+s.path+"/blobs/"+want.String())
		w.Header().Set("Docker-Content-Digest", want.String())
		w.WriteHeader(http.StatusCreated)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "not a request that a push makes")
	}
}

// forget takes an upload out, so that nobody goes on with it.
func (p *proxy) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.uploads, id)
}

// take reads a body: into memory while it is small, then through to the store.
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
		u.commit, err = s.store.Stream(r.Context(), "", io.MultiReader(bytes.NewReader(head), r.Body))
		return err
	}
	if n, err := io.Copy(io.Discard, r.Body); err != nil || n == 0 {
		return err
	}
	return errors.New("the engine sent a layer in several parts, and one is expected")
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
	return image.PutBytes(ctx, s.store, want, u.buf.Bytes())
}
