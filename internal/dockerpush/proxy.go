package dockerpush

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
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
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/layer"
)

// Door is a registry on loopback, for the time of a run. A classic engine
// pushes to it as to any registry, and so uses what it knows of its layers;
// the door passes the blobs on to a Sink and keeps the manifests, so that no
// tag moves. The engine never sees a credential of the real registry.
//
// It speaks the part of the distribution protocol that docker push uses.
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md
type Proxy struct {
	addr     string
	password string
	server   *http.Server

	mu       sync.Mutex
	sessions map[string]*session
	uploads  map[string]*upload

	packing chan struct{} // bounds the layers that are packed at once
}

// A Slot is one image's way through the door.
type session struct {
	Name string // what the engine pushes: 127.0.0.1:PORT/REPOSITORY:TAG

	proxy    *Proxy
	path     string
	sink     image.Store
	bases    image.Bases
	rewriter *rewriter // nil where the engine's own layers will do
	inputs   *fingerprint.Inputs
	manifest chan image.Manifest
	ctx      context.Context         // of the push, and of what is copied meanwhile
	cancel   context.CancelCauseFunc // ends the push with the sink's own error

	mu      sync.Mutex
	image   digest.Digest            // of the engine's config
	configs map[digest.Digest][]byte // those that will be written anew
	copies  sync.WaitGroup
	copied  error // the first layer that could not be copied from its base's registry

	failed   error // what the sink said last; the engine has only a status of it
	failures int
}

const proxyUser = "ecsbuild"

// packsAtOnce bounds the layers that are packed side by side, each of which
// takes some megabytes of memory and all cores.
const MaxConcurrentCompressions = 4

// doorPort is tried first: an engine asks for every layer that it remembers to
// have pushed to the same address, and of another one for the large ones alone.
const proxyPort = "127.0.0.1:53170"

func newProxy() (*Proxy, error) {
	l, err := net.Listen("tcp4", proxyPort)
	if err != nil {
		l, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	d := &Proxy{addr: l.Addr().String(), password: rand.Text(), sessions: map[string]*session{}, uploads: map[string]*upload{}, packing: make(chan struct{}, MaxConcurrentCompressions)}
	d.server = &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = d.server.Serve(l) }()
	return d, nil
}

// Close ends the door; a push that still runs fails.
func (d *Proxy) close() { _ = d.server.Close() }

// openDoor starts the door once a run and asks the engine to knock: one with
// a loopback of its own (a virtual machine, another network namespace) cannot,
// and the door is nil for it.
func (p *Pusher) startProxy(ctx context.Context) (*Proxy, error) {
	p.proxyOnce.Do(func() {
		d, err := newProxy()
		if err != nil {
			p.proxyErr = err
			return
		}
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if _, err := p.docker.RegistryLogin(ctx, client.RegistryLoginOptions{Username: proxyUser, Password: d.password, ServerAddress: d.addr}); err != nil {
			d.close()
			return
		}
		p.proxy = d
	})
	return p.proxy, p.proxyErr
}

// Open makes a slot for one image. Its path is the image's own, also where
// images share a repository, and the same in every run, so that the engine
// finds what it remembers of it.
func (d *Proxy) open(r Push) *session {
	img := r.Image
	sum := sha256.Sum256([]byte(img.Name()))
	s := &session{proxy: d, path: img.Repository + "/" + hex.EncodeToString(sum[:4]), sink: r.Store, bases: r.Bases, manifest: make(chan image.Manifest, 1), image: r.ID, inputs: r.Inputs, configs: map[digest.Digest][]byte{}}
	if recipe, own := layer.EncodingOf(img.Build); own {
		s.rewriter = newRewriter(recipe, r.State, d.packing)
	}
	s.Name = d.addr + "/" + s.path + ":run"
	d.mu.Lock()
	d.sessions[s.path] = s
	d.mu.Unlock()
	return s
}

// Close forgets the slot, and the uploads that nobody ended.
func (s *session) Close() {
	s.proxy.mu.Lock()
	defer s.proxy.mu.Unlock()
	delete(s.proxy.sessions, s.path)
	for id, u := range s.proxy.uploads {
		if u.slot == s {
			delete(s.proxy.uploads, id)
			go u.end() // whoever still writes it comes first
		}
	}
}

// rewrites says that the config of the slot's image will be another one than
// the engine's.
func (s *session) rewritesConfig() bool { return s.rewriter != nil || s.inputs != nil }

// config gives what the engine sent, and keepConfig takes it.
func (s *session) config(d digest.Digest) (data []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok = s.configs[d]
	return data, ok
}

func (s *session) keepConfig(d digest.Digest, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configs[d] = data
}

var requestPath = regexp.MustCompile(`^/v2/(.+)/(blobs|manifests)/(uploads/)?([^/]*)$`)

func (d *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	user, pass, _ := r.BasicAuth()
	if user != proxyUser || subtle.ConstantTimeCompare([]byte(pass), []byte(d.password)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="ecsbuild"`)
		writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "this registry serves one run of ecsbuild")
		return
	}
	if r.URL.Path == "/v2/" {
		return
	}
	m := requestPath.FindStringSubmatch(r.URL.Path)
	if m == nil {
		writeError(w, http.StatusNotFound, "UNSUPPORTED", "not a request that a push makes")
		return
	}
	path, kind, last := m[1], m[2], m[4]
	d.mu.Lock()
	slot := d.sessions[path]
	d.mu.Unlock()
	if slot == nil {
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "no image of this run is called "+path)
		return
	}
	switch {
	case kind == "manifests" && r.Method == http.MethodPut:
		slot.putManifest(w, r)
	case kind == "manifests":
		writeError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "the door keeps manifests back")
	case m[3] == "" && r.Method == http.MethodHead:
		slot.head(w, r, digest.Digest(last))
	case m[3] != "" && r.Method == http.MethodPost:
		d.initiateUpload(w, slot)
	case m[3] != "":
		d.upload(w, r, slot, last)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "not a request that a push makes")
	}
}

// has says what a push need not send, and its size in bytes, without which the
// engine cannot write its manifest.
func (s *session) has(ctx context.Context, d digest.Digest) (size int64, ok bool, err error) {
	if config, ok := s.config(d); ok || s.rewritesConfig() && d == s.image {
		return int64(len(config)), ok, nil // the registry may have it, and the door needs it
	}
	if s.rewriter != nil {
		return s.rewriter.has(ctx, s, d)
	}
	if size, ok, err = s.sink.Has(ctx, d); err != nil || ok && size >= 0 {
		return size, ok, err
	}
	size, ok = s.copyFromBase(d)
	return size, ok, nil
}

func (s *session) head(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	size, ok, err := s.has(r.Context(), d)
	switch {
	case err != nil:
		s.fail(err)
		w.WriteHeader(http.StatusBadGateway)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	default:
		// Without a length the engine takes it for "not there".
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		w.Header().Set("Docker-Content-Digest", d.String())
		w.WriteHeader(http.StatusOK)
	}
}

// maxManifest is ECR's limit, in bytes.
const maxManifest = 4 << 20

func (s *session) putManifest(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxManifest+1))
	if err != nil || len(data) > maxManifest {
		writeError(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "the manifest is too large or did not arrive whole")
		return
	}
	m := image.Manifest{MediaType: r.Header.Get("Content-Type"), Digest: digest.FromBytes(data), Data: data}
	w.Header().Set("Docker-Content-Digest", m.Digest.String()) // also of one that is made anew: the engine holds it against its own
	if m.MediaType != image.DockerManifest && m.MediaType != ocispec.MediaTypeImageManifest {
		s.fail(fmt.Errorf("the engine pushes a manifest of the type %q", m.MediaType))
		writeError(w, http.StatusUnsupportedMediaType, "MANIFEST_INVALID", "not the manifest of an image")
		return
	}
	var image struct{ Layers []json.RawMessage }
	if json.Unmarshal(data, &image) == nil && image.Layers == nil { // an engine writes null where there are none
		if m, err = m.WithKey("layers", []any{}); err != nil {
			s.fail(err)
		}
	}
	if s.rewritesConfig() {
		if m, err = s.rewriteManifest(r.Context(), m); err != nil {
			s.fail(err)
			writeError(w, http.StatusBadGateway, "UNKNOWN", "the image could not be completed")
			return
		}
	}
	select {
	case s.manifest <- m:
	default: // the same one, put again
	}
	w.WriteHeader(http.StatusCreated)
}

// rewrite gives the manifest that the registry gets; its config is put.
func (s *session) rewriteManifest(ctx context.Context, m image.Manifest) (image.Manifest, error) {
	var from ocispec.Manifest
	if err := json.Unmarshal(m.Data, &from); err != nil {
		return m, fmt.Errorf("the engine's manifest: %w", err)
	}
	config, ok := s.config(from.Config.Digest)
	if !ok {
		return m, fmt.Errorf("the engine names a config %s that it did not push", from.Config.Digest)
	}
	if s.rewriter != nil {
		return s.rewriter.manifest(ctx, s, from.Layers, config)
	}
	config, err := s.inputs.AddLabel(ctx, config)
	if err != nil {
		return m, err
	}
	if err := image.PutBytes(ctx, s.sink, digest.FromBytes(config), config); err != nil {
		return m, err
	}
	return image.WithConfig(m, config)
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}
