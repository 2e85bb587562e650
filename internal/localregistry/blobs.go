package localregistry

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

func (r repository) blobFile(d digest.Digest) string {
	return filepath.Join(r.folder, "blobs", d.Algorithm().String(), d.Encoded())
}

// parseDigest takes the digests that blobs may have: of sha256, sha384 or sha512.
func parseDigest(text string) (digest.Digest, error) {
	d, err := digest.Parse(text)
	if err != nil {
		return "", failure{http.StatusBadRequest, "DIGEST_INVALID", fmt.Sprintf("%q: %v", text, err)}
	}
	return d, nil
}

func (r repository) serveBlob(w http.ResponseWriter, req *http.Request, text string) error {
	d, err := parseDigest(text)
	if err != nil {
		return err
	}
	unknown := failure{http.StatusNotFound, "BLOB_UNKNOWN", "the repository " + r.name + " has no " + text}
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		f, err := os.Open(r.blobFile(d))
		if isMissing(err) {
			return unknown
		}
		if err != nil {
			return err
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Docker-Content-Digest", text)
		http.ServeContent(w, req, "", time.Time{}, f)
		return nil
	case http.MethodDelete:
		err := os.Remove(r.blobFile(d))
		if isMissing(err) {
			return unknown
		}
		if err == nil {
			w.WriteHeader(http.StatusAccepted)
		}
		return err
	}
	return errMethod
}

// upload is a blob on its way.
type upload struct {
	repo repository
	id   string
	last time.Time // when a part came; under the registry's lock

	mu   sync.Mutex
	file *os.File
	size int64
}

// serveUpload takes a blob: at once by POST, or begun by POST, with PATCH for each part
// and PUT for its end.
func (l *Registry) serveUpload(w http.ResponseWriter, req *http.Request, repo repository, id string) error {
	query := req.URL.Query()
	if req.Method == http.MethodPost && id == "" {
		if mounted, err := l.mount(repo, query.Get("mount"), query.Get("from")); mounted || err != nil {
			if err == nil {
				repo.created(w, "blobs", digest.Digest(query.Get("mount")))
			}
			return err
		}
		u, err := l.begin(repo)
		if err != nil {
			return err
		}
		if query.Get("digest") != "" {
			err := l.finish(w, req, u)
			if err != nil {
				l.cancel(u) // nobody knows its address
			}
			return err
		}
		u.answer(w, http.StatusAccepted)
		return nil
	}
	l.mu.Lock()
	u := l.uploads[id]
	if u != nil {
		u.last = time.Now()
	}
	l.mu.Unlock()
	if u == nil || u.repo.name != repo.name {
		return failure{http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no upload " + id}
	}
	switch req.Method {
	case http.MethodGet:
		u.answer(w, http.StatusNoContent)
	case http.MethodPatch:
		if err := u.append(w, req); err != nil {
			return err
		}
		u.answer(w, http.StatusAccepted)
	case http.MethodPut:
		return l.finish(w, req, u)
	case http.MethodDelete:
		l.cancel(u)
		w.WriteHeader(http.StatusNoContent)
	default:
		return errMethod
	}
	return nil
}

// mount takes a blob over from another repository, where that has it.
func (l *Registry) mount(repo repository, text, from string) (bool, error) {
	if text == "" || !validName.MatchString(from) {
		return false, nil
	}
	d, err := parseDigest(text)
	if err != nil {
		return false, err
	}
	source, err := os.Open(l.repository(from).blobFile(d))
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer source.Close()
	f, err := repo.temporary()
	if err != nil {
		return false, err
	}
	_, err = io.Copy(f, source)
	err = keep(f, repo.blobFile(d), err)
	return err == nil, err
}

// idle is how long an upload may wait for its next part.
const idle = time.Hour

func (l *Registry) begin(repo repository) (*upload, error) {
	l.cancelUploads(idle)
	f, err := repo.temporary()
	if err != nil {
		return nil, err
	}
	u := &upload{repo: repo, id: rand.Text(), file: f, last: time.Now()}
	l.mu.Lock()
	l.uploads[u.id] = u
	l.mu.Unlock()
	return u, nil
}

// append takes a part, which must begin where the last one ended.
func (u *upload) append(w http.ResponseWriter, req *http.Request) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if text := req.Header.Get("Content-Range"); text != "" {
		begin, _, _ := strings.Cut(text, "-")
		if n, err := strconv.ParseInt(begin, 10, 64); err != nil || n != u.size {
			u.locate(w)
			return failure{http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID",
				fmt.Sprintf("the range %s does not begin at %d", text, u.size)}
		}
	}
	n, err := io.Copy(u.file, req.Body)
	u.size += n
	return err
}

// finish takes what is left of a blob, and keeps it if it is what its digest says.
func (l *Registry) finish(w http.ResponseWriter, req *http.Request, u *upload) error {
	d, err := parseDigest(req.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	l.mu.Lock()
	mine := l.uploads[u.id] == u // and not of another PUT, at the same time
	delete(l.uploads, u.id)
	l.mu.Unlock()
	if !mine {
		return failure{http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "the upload " + u.id + " has ended"}
	}
	if err := u.append(w, req); err != nil {
		if errors.As(err, new(failure)) { // a part that belongs elsewhere, and nothing is lost
			l.mu.Lock()
			l.uploads[u.id] = u
			l.mu.Unlock()
		} else {
			l.cancel(u)
		}
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, err = u.file.Seek(0, io.SeekStart); err == nil {
		check := d.Verifier()
		if _, err = io.Copy(check, u.file); err == nil && !check.Verified() {
			err = failure{http.StatusBadRequest, "DIGEST_INVALID", "what has arrived is not " + d.String()}
		}
	}
	if err := keep(u.file, u.repo.blobFile(d), err); err != nil {
		return err
	}
	u.repo.created(w, "blobs", d)
	return nil
}

func (l *Registry) cancel(u *upload) {
	l.mu.Lock()
	delete(l.uploads, u.id)
	l.mu.Unlock()
	_ = u.file.Close()
	_ = os.Remove(u.file.Name())
}

// cancelUploads ends those that nothing has come of for a while.
func (l *Registry) cancelUploads(while time.Duration) {
	l.mu.Lock()
	var left []*upload
	for _, u := range l.uploads {
		if time.Since(u.last) >= while {
			left = append(left, u)
		}
	}
	l.mu.Unlock()
	for _, u := range left {
		l.cancel(u)
	}
}

// locate says where an upload goes on, and how many bytes of it are here: an engine takes
// the range for what has arrived.
func (u *upload) locate(w http.ResponseWriter) {
	w.Header().Set("Location", u.repo.url("blobs/uploads", u.id))
	w.Header().Set("Docker-Upload-UUID", u.id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, u.size-1)))
}

func (u *upload) answer(w http.ResponseWriter, status int) {
	u.mu.Lock()
	u.locate(w)
	u.mu.Unlock()
	w.WriteHeader(status)
}

// created answers that something is there now.
func (r repository) created(w http.ResponseWriter, kind string, d digest.Digest) {
	w.Header().Set("Location", r.url(kind, d.String()))
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
}
