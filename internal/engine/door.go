package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// Door is a registry on loopback, for the time of a run. A classic engine
// pushes to it as to any registry, and so uses what it knows of its layers;
// the door passes the blobs on to a Sink and keeps the manifests, so that no
// tag moves. The engine never sees a credential of the real registry.
//
// It speaks the part of the distribution protocol that docker push uses.
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md
type Door struct {
	addr     string
	password string
	server   *http.Server

	mu      sync.Mutex
	slots   map[string]*Slot
	uploads map[string]*doorUpload
}

// A Slot is one image's way through the door.
type Slot struct {
	Name string // what the engine pushes: 127.0.0.1:PORT/REPOSITORY:TAG

	door     *Door
	path     string
	sink     Sink
	bases    Bases
	manifest chan Manifest
	ctx      context.Context         // of the push, and of what is copied meanwhile
	cancel   context.CancelCauseFunc // ends the push with the sink's own error

	mu     sync.Mutex
	copies sync.WaitGroup
	copied error // the first layer that could not be copied from its base's registry

	failed   error // what the sink said last; the engine has only a status of it
	failures int
}

const doorUser = "ecsbuild"

// doorPort is tried first: an engine asks for every layer that it remembers to
// have pushed to the same address, and of another one for the large ones alone.
const doorPort = "127.0.0.1:53170"

func newDoor() (*Door, error) {
	l, err := net.Listen("tcp4", doorPort)
	if err != nil {
		l, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	d := &Door{addr: l.Addr().String(), password: rand.Text(), slots: map[string]*Slot{}, uploads: map[string]*doorUpload{}}
	d.server = &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = d.server.Serve(l) }()
	return d, nil
}

// Close ends the door; a push that still runs fails.
func (d *Door) Close() { _ = d.server.Close() }

// openDoor starts the door once a run and asks the engine to knock: one with
// a loopback of its own (a virtual machine, another network namespace) cannot,
// and the door is nil for it.
func (e *Engine) openDoor(ctx context.Context) (*Door, error) {
	e.doorOnce.Do(func() {
		d, err := newDoor()
		if err != nil {
			e.doorErr = err
			return
		}
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if _, err := e.docker.RegistryLogin(ctx, client.RegistryLoginOptions{Username: doorUser, Password: d.password, ServerAddress: d.addr}); err != nil {
			d.Close()
			return
		}
		e.door = d
	})
	return e.door, e.doorErr
}

// Open makes a slot for one image. Its path is the image's own, also where
// images share a repository, and the same in every run, so that the engine
// finds what it remembers of it.
func (d *Door) Open(img plan.Image, sink Sink, bases Bases) *Slot {
	sum := sha256.Sum256([]byte(img.Name()))
	s := &Slot{door: d, path: img.Repository + "/" + hex.EncodeToString(sum[:4]), sink: sink, bases: bases, manifest: make(chan Manifest, 1)}
	s.Name = d.addr + "/" + s.path + ":run"
	d.mu.Lock()
	d.slots[s.path] = s
	d.mu.Unlock()
	return s
}

// Close forgets the slot.
func (s *Slot) Close() {
	s.door.mu.Lock()
	defer s.door.mu.Unlock()
	delete(s.door.slots, s.path)
}

// push has the engine push through the slot and gives the manifest that it
// put there. The name that it was pushed under is taken away again.
func (e *Engine) push(ctx context.Context, s *Slot) (*Built, error) {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_, _ = e.docker.ImageRemove(ctx, s.Name, client.ImageRemoveOptions{})
	}()
	m, err := e.pushOnce(ctx, s)
	if ctx.Err() == nil && s.lendNoMore() {
		m, err = e.pushOnce(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	return &Built{Manifests: []Manifest{m}}, nil
}

func (e *Engine) pushOnce(ctx context.Context, s *Slot) (Manifest, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	s.ctx, s.cancel = ctx, cancel
	s.mu.Unlock()
	auth, _ := json.Marshal(map[string]string{"username": doorUser, "password": s.door.password, "serveraddress": s.door.addr})
	resp, err := e.docker.ImagePush(ctx, s.Name, client.ImagePushOptions{RegistryAuth: base64.URLEncoding.EncodeToString(auth)})
	if err == nil {
		err = resp.Wait(ctx)
		_ = resp.Close()
	}
	s.copies.Wait()
	select {
	case m := <-s.manifest:
		return m, nil
	default:
	}
	if cause := context.Cause(ctx); cause != nil {
		return Manifest{}, cause
	}
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed != nil {
		return Manifest{}, failed
	}
	if err == nil {
		err = errors.New("the engine ended its push without a manifest")
	}
	return Manifest{}, fmt.Errorf("%s pushes: %w", e, err)
}

// lendNoMore says whether a layer could not be copied. The engine has these
// layers as well, and sends them itself the next time.
func (s *Slot) lendNoMore() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	failed := s.copied != nil
	if failed {
		s.bases, s.copied = nil, nil
	}
	return failed
}

// lend answers for a layer that the registry lacks and a base image has: it is
// copied from the base's registry while the engine goes on.
func (s *Slot) lend(d digest.Digest) (size int64, ok bool) {
	s.mu.Lock()
	ctx, bases := s.ctx, s.bases
	s.mu.Unlock()
	if bases == nil || ctx == nil {
		return 0, false
	}
	size, open, ok := bases.Layer(ctx, d)
	if !ok {
		return 0, false
	}
	s.copies.Go(func() {
		if err := s.sink.Put(ctx, d, size, open); err != nil {
			s.mu.Lock()
			if s.copied == nil {
				s.copied = err
			}
			s.mu.Unlock()
		}
	})
	return size, true
}

// maxFailures is how many passing failures of the sink end a push: the sink has
// tried each several times, and the engine would five times more.
const maxFailures = 3

// fail keeps the sink's own words, and ends the push with them when trying
// again is of no use.
func (s *Slot) fail(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	var temporary interface{ Temporary() bool }
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
	if s.failures++; s.failures < maxFailures && errors.As(err, &temporary) && temporary.Temporary() {
		return
	}
	if s.cancel != nil {
		s.cancel(err)
	}
}

var doorPath = regexp.MustCompile(`^/v2/(.+)/(blobs|manifests)/(uploads/)?([^/]*)$`)

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	user, pass, _ := r.BasicAuth()
	if user != doorUser || subtle.ConstantTimeCompare([]byte(pass), []byte(d.password)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="ecsbuild"`)
		doorError(w, http.StatusUnauthorized, "UNAUTHORIZED", "this registry serves one run of ecsbuild")
		return
	}
	if r.URL.Path == "/v2/" {
		return
	}
	m := doorPath.FindStringSubmatch(r.URL.Path)
	if m == nil {
		doorError(w, http.StatusNotFound, "UNSUPPORTED", "not a request that a push makes")
		return
	}
	path, kind, last := m[1], m[2], m[4]
	d.mu.Lock()
	slot := d.slots[path]
	d.mu.Unlock()
	if slot == nil {
		doorError(w, http.StatusNotFound, "NAME_UNKNOWN", "no image of this run is called "+path)
		return
	}
	switch {
	case kind == "manifests" && r.Method == http.MethodPut:
		slot.putManifest(w, r)
	case kind == "manifests":
		doorError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "the door keeps manifests back")
	case m[3] == "" && r.Method == http.MethodHead:
		slot.head(w, r, digest.Digest(last))
	case m[3] != "" && r.Method == http.MethodPost:
		d.begin(w, slot)
	case m[3] != "":
		d.upload(w, r, slot, last)
	default:
		doorError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "not a request that a push makes")
	}
}

func (s *Slot) head(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	size, ok, err := s.sink.Has(r.Context(), d)
	switch {
	case err != nil:
		s.fail(err)
		w.WriteHeader(http.StatusBadGateway)
	case !ok || size < 0: // without a size the engine cannot write its manifest
		if size, ok = s.lend(d); !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fallthrough
	default:
		// Without a length the engine takes it for "not there".
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		w.Header().Set("Docker-Content-Digest", d.String())
		w.WriteHeader(http.StatusOK)
	}
}

// maxManifest is ECR's limit, in bytes.
const maxManifest = 4 << 20

func (s *Slot) putManifest(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxManifest+1))
	if err != nil || len(data) > maxManifest {
		doorError(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "the manifest is too large or did not arrive whole")
		return
	}
	m := Manifest{MediaType: r.Header.Get("Content-Type"), Digest: digest.FromBytes(data), Data: data}
	select {
	case s.manifest <- m:
	default: // the same one, put again
	}
	w.Header().Set("Docker-Content-Digest", m.Digest.String())
	w.WriteHeader(http.StatusCreated)
}

// doorUpload is one blob on its way: at first in memory, and straight to the
// sink once it has grown past smallBlob.
type doorUpload struct {
	mu     sync.Mutex
	got    int64 // bytes so far
	buf    bytes.Buffer
	commit func(context.Context, digest.Digest) error
}

// smallBlob is the size below which an engine does not ask for the digests
// that it knows of a layer before it sends it, in bytes. Such a layer is taken
// into memory, and dropped when the registry has it.
const smallBlob = 10 << 20

func (d *Door) begin(w http.ResponseWriter, slot *Slot) {
	id := rand.Text()
	d.mu.Lock()
	d.uploads[id] = &doorUpload{}
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
	u.mu.Lock()
	defer u.mu.Unlock()
	switch r.Method {
	case http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch, http.MethodPut:
		if err := u.take(r, slot.sink); err != nil {
			slot.fail(err)
			doorError(w, http.StatusBadGateway, "UNKNOWN", "the upload broke off")
			return
		}
		if r.Method == http.MethodPatch {
			slot.uploadAnswer(w, id, u.got)
			return
		}
		want, err := digest.Parse(r.URL.Query().Get("digest"))
		if err == nil {
			err = u.finish(r.Context(), slot.sink, want)
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
func (u *doorUpload) take(r *http.Request, sink Sink) error {
	r.Body = &countReader{r.Body, &u.got}
	if u.commit == nil {
		if _, err := io.CopyN(&u.buf, r.Body, int64(smallBlob-u.buf.Len())+1); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		head := u.buf.Bytes()
		u.buf = bytes.Buffer{}
		var err error
		u.commit, err = sink.Stream(r.Context(), "", io.MultiReader(bytes.NewReader(head), r.Body))
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

func (u *doorUpload) finish(ctx context.Context, sink Sink, want digest.Digest) error {
	if u.commit != nil {
		return u.commit(ctx, want)
	}
	return putBytes(ctx, sink, want, u.buf.Bytes())
}

func putBytes(ctx context.Context, sink Sink, want digest.Digest, data []byte) error {
	if got := digest.FromBytes(data); got != want {
		return fmt.Errorf("a blob arrived as %s and not as %s", got, want)
	}
	return sink.Put(ctx, want, int64(len(data)), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
}

func doorError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}
