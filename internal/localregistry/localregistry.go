// Package localregistry is the registry of run --local and serve: on loopback, with its images in a folder.
package localregistry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1"
)

// Registry is a registry that keeps its images in a folder, one for each
// repository. It is go-containerregistry's, with two things around it: an
// upload goes to disk and not to memory, and manifests outlive the process.
type Registry struct {
	dir string

	mu      sync.Mutex
	repos   map[string]*repository
	uploads map[string]*os.File
}

type repository struct {
	handler http.Handler
	blobs   registry.BlobHandler
	folder  string
}

// New opens the registry in dir, which is made when the first image comes.
func New(dir string) *Registry {
	return &Registry{dir: dir, repos: map[string]*repository{}, uploads: map[string]*os.File{}}
}

// defaultPort is tried first, so that definitions of earlier runs stay good.
const defaultPort = "5000"

// Serve listens on loopback until ctx ends, and gives its address, HOST:PORT.
func (l *Registry) Serve(ctx context.Context) (addr string, stop func(), err error) {
	portFile := filepath.Join(l.dir, "port")
	ports := []string{defaultPort, "0"}
	if data, err := os.ReadFile(portFile); err == nil {
		ports = append([]string{strings.TrimSpace(string(data))}, ports...)
	}
	var listener net.Listener
	for _, p := range ports {
		if listener, err = net.Listen("tcp4", net.JoinHostPort("127.0.0.1", p)); err == nil {
			break
		}
	}
	if err != nil {
		return "", nil, err
	}
	if err := l.prepare(); err != nil {
		_ = listener.Close()
		return "", nil, err
	}
	addr = listener.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	_ = os.WriteFile(portFile, []byte(port+"\n"), 0o644)
	server := &http.Server{Handler: l, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	return addr, func() { _ = server.Close(); serving.Wait() }, nil
}

// prepare makes the folder, and keeps it out of git.
func (l *Registry) prepare() error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, ".gitignore"), []byte("*\n"), 0o644)
}

var requestPath = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs/uploads|blobs|tags)/([^/]*)$`)

func (l *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v2/" {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		return
	}
	m := requestPath.FindStringSubmatch(r.URL.Path)
	if m == nil || strings.Contains(m[1], "..") {
		http.NotFound(w, r)
		return
	}
	repo, err := l.open(m[1])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	switch {
	case m[2] == "blobs/uploads":
		l.upload(w, r, repo, m[1], m[3])
	case m[2] == "manifests" && r.Method == http.MethodPut:
		repo.putManifest(w, r, m[3])
	default:
		repo.handler.ServeHTTP(w, r)
	}
}

// open opens a repository and reads back the manifests that it holds.
func (l *Registry) open(name string) (*repository, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.repos[name]; r != nil {
		return r, nil
	}
	r := &repository{folder: filepath.Join(l.dir, url.PathEscape(name))}
	blobs := filepath.Join(r.folder, "blobs")
	for _, dir := range []string{filepath.Join(blobs, "sha256"), filepath.Join(r.folder, "manifests")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	r.blobs = registry.NewDiskBlobHandler(blobs)
	r.handler = registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithBlobHandler(r.blobs))
	saved, err := os.ReadDir(filepath.Join(r.folder, "manifests"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// What an index names must be there before it: digests first, tags after.
	sort.SliceStable(saved, func(i, j int) bool { return isDigest(saved[i].Name()) && !isDigest(saved[j].Name()) })
	for _, f := range saved {
		r.restore(name, f.Name())
	}
	l.repos[name] = r
	return r, nil
}

func isDigest(file string) bool { return strings.HasPrefix(file, "sha256") }

// savedManifest is a manifest as it lies in the folder, named by its tag.
type savedManifest struct {
	MediaType string `json:"mediaType"`
	Manifest  []byte `json:"manifest"` // to the byte, so as base64
}

func (r *repository) restore(name, file string) {
	data, err := os.ReadFile(filepath.Join(r.folder, "manifests", file))
	if err != nil {
		return
	}
	var s savedManifest
	ref, err := url.PathUnescape(file)
	if json.Unmarshal(data, &s) != nil || err != nil {
		return // half a file is a tag that is not there
	}
	req, err := http.NewRequest(http.MethodPut, "/v2/"+name+"/manifests/"+ref, bytes.NewReader(s.Manifest))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", s.MediaType)
	r.handler.ServeHTTP(discardResponse{http.Header{}}, req)
}

// discardResponse is an answer that nobody reads.
type discardResponse struct{ header http.Header }

func (d discardResponse) Header() http.Header       { return d.header }
func (discardResponse) Write(p []byte) (int, error) { return len(p), nil }
func (discardResponse) WriteHeader(int)             {}

func (r *repository) putManifest(w http.ResponseWriter, req *http.Request, ref string) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 4<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	answer := &statusRecorder{ResponseWriter: w}
	r.handler.ServeHTTP(answer, req)
	if answer.code != http.StatusCreated {
		return
	}
	data, _ := json.Marshal(savedManifest{MediaType: req.Header.Get("Content-Type"), Manifest: body})
	// unsaved, it is there until the end of the run
	_ = os.WriteFile(filepath.Join(r.folder, "manifests", url.PathEscape(ref)), data, 0o644)
}

// statusRecorder remembers what was answered.
type statusRecorder struct {
	http.ResponseWriter
	code int
}

func (s *statusRecorder) WriteHeader(code int) { s.code = code; s.ResponseWriter.WriteHeader(code) }

// upload takes POST, PATCH and PUT of one blob by way of a file.
func (l *Registry) upload(w http.ResponseWriter, r *http.Request, repo *repository, name, id string) {
	fail := func(err error) { http.Error(w, err.Error(), http.StatusInternalServerError) }
	if r.Method == http.MethodPost {
		f, err := os.CreateTemp(repo.folder, "upload-*")
		if err != nil {
			fail(err)
			return
		}
		_ = os.Remove(f.Name())
		id = rand.Text()
		l.mu.Lock()
		l.uploads[id] = f
		l.mu.Unlock()
		l.located(w, name, id, 0)
		return
	}
	l.mu.Lock()
	f := l.uploads[id]
	if r.Method != http.MethodPatch {
		delete(l.uploads, id)
	}
	l.mu.Unlock()
	if f == nil {
		http.NotFound(w, r)
		return
	}
	if _, err := io.Copy(f, r.Body); err != nil {
		fail(err)
		return
	}
	if r.Method == http.MethodPatch {
		got, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			fail(err)
			return
		}
		l.located(w, name, id, got)
		return
	}
	defer f.Close()
	h, err := v1.NewHash(r.URL.Query().Get("digest"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		fail(err)
		return
	}
	// go-containerregistry checks the digest of what it takes in one piece.
	req := r.Clone(r.Context())
	req.Method, req.Body, req.ContentLength = http.MethodPost, f, size
	req.URL.Path, req.URL.RawQuery = "/v2/"+name+"/blobs/uploads/", url.Values{"digest": {h.String()}}.Encode()
	repo.handler.ServeHTTP(w, req)
}

// located answers where an upload goes on, and how many bytes of it are here:
// an engine takes the range for what has arrived.
func (l *Registry) located(w http.ResponseWriter, name, id string, got int64) {
	w.Header().Set("Location", fmt.Sprintf("/v2/%s/blobs/uploads/%s", name, id))
	w.Header().Set("Docker-Upload-UUID", id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, got-1)))
	w.WriteHeader(http.StatusAccepted)
}
