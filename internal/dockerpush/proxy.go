package dockerpush

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/layer"
	"github.com/ecsbuild/ecsbuild/internal/relay"
)

// proxy is a registry on loopback, for the time of a run. A classic engine
// pushes to it as to any registry, and so uses what it knows of its layers;
// the proxy forwards the blobs to a store and keeps the manifests, so that no
// tag moves. The engine never sees a credential of the real registry.
//
// It speaks the part of the distribution protocol that docker push uses.
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md
type proxy struct {
	addr     string
	password string
	server   *http.Server  // nil where relay is not
	relay    *relay.Server // of an engine whose loopback is another one

	removeRelay func()         // its container, and waits until it is gone
	running     sync.WaitGroup // Serve, and uploads that are being given up

	mu       sync.Mutex
	sessions map[string]*session
	uploads  map[string]*upload
	ended    error // nil as long as the engine can reach it

	compressions chan struct{} // bounds the layers that are compressed at once
}

// session is the push of one image through the proxy.
type session struct {
	name string // what the engine pushes: 127.0.0.1:PORT/REPOSITORY:TAG

	proxy    *proxy
	path     string
	store    image.Store
	bases    image.Bases
	rewriter *rewriter // nil where the engine's own layers will do
	inputs   *fingerprint.Inputs
	manifest chan image.Manifest
	image    digest.Digest // of the engine's config

	mu      sync.Mutex
	ctx     context.Context          // of the push and its copies; nil while none runs
	cancel  context.CancelCauseFunc  // ends the push with the store's own error
	configs map[digest.Digest][]byte // those that will be rewritten
	copies  sync.WaitGroup           // layers of base images; added to under mu while ctx is set
	copyErr error                    // the first layer that could not be copied from its base's registry

	failed   error // what the store said last; the engine has only a status of it
	failures int
	stalls   int  // uploads that stood still, once for those that did together
	refuses  bool // the manifest, since the run has been stopped

	lastStall time.Time
}

const proxyUser = "ecsbuild"

// MaxConcurrentCompressions bounds the layers that are compressed side by side, each
// of which takes some megabytes of memory and all cores.
const MaxConcurrentCompressions = 4

// proxyPort is tried first: an engine asks for every layer that it remembers to
// have pushed to the same address, and of another one for the large ones alone.
const preferredProxyAddr = "127.0.0.1:53170"

func newProxy(compressions chan struct{}) *proxy {
	return &proxy{password: rand.Text(), sessions: map[string]*session{}, uploads: map[string]*upload{},
		compressions: compressions}
}

// listen has it serve on this machine's loopback.
func (p *proxy) listen() error {
	l, err := net.Listen("tcp4", preferredProxyAddr)
	if err != nil {
		l, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	if err != nil {
		return err
	}
	p.addr = l.Addr().String()
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	p.running.Go(func() { _ = p.server.Serve(l) })
	return nil
}

// close ends the proxy; a push that still runs fails.
func (p *proxy) close() {
	if p.relay != nil {
		p.relay.Close()
		p.removeRelay()
	} else {
		_ = p.server.Close()
	}
	p.running.Wait()
}

// end ends all pushes, since the engine cannot reach the proxy any more.
func (p *proxy) end(why error) {
	p.mu.Lock()
	p.ended = why
	sessions := slices.Collect(maps.Values(p.sessions))
	p.mu.Unlock()
	for _, s := range sessions {
		s.mu.Lock()
		if s.cancel != nil {
			s.cancel(why)
		}
		s.mu.Unlock()
	}
}

// hasEnded says why the engine cannot reach the proxy any more, or nil.
func (p *proxy) hasEnded() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// pathPrefix begins the name of whatever is pushed to a proxy.
const pathPrefix = "ecsbuild/"

// open makes a session for one image. Its path is the image's own, also where
// images share a repository, and the same in every run, so that the engine
// finds what it remembers of it.
func (p *proxy) open(r Push) *session {
	img := r.Image
	sum := sha256.Sum256([]byte(img.Repository + " " + img.Name()))
	s := &session{proxy: p, path: pathPrefix + hex.EncodeToString(sum[:8]), store: r.Store, bases: r.Bases,
		manifest: make(chan image.Manifest, 1), image: r.ID, inputs: r.Inputs, configs: map[digest.Digest][]byte{}}
	if encoding, custom := layer.EncodingOf(img.Build); custom {
		s.rewriter = newRewriter(encoding, r.State, p.compressions)
	}
	s.name = p.addr + "/" + s.path + ":run"
	p.mu.Lock()
	p.sessions[s.path] = s
	p.mu.Unlock()
	return s
}

// close forgets the session, and the uploads that nobody ended.
func (s *session) close() {
	s.proxy.mu.Lock()
	defer s.proxy.mu.Unlock()
	delete(s.proxy.sessions, s.path)
	for id, u := range s.proxy.uploads {
		if u.session == s {
			delete(s.proxy.uploads, id)
			s.proxy.running.Go(u.end) // after the request that still writes it
		}
	}
}

// rewritesConfig says that the config of the session's image will be another one than
// the engine's.
func (s *session) rewritesConfig() bool { return s.rewriter != nil || s.inputs != nil }

// config returns what the engine sent, and keepConfig takes it.
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

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	user, pass, _ := r.BasicAuth()
	if user != proxyUser || subtle.ConstantTimeCompare([]byte(pass), []byte(p.password)) != 1 {
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
	p.mu.Lock()
	s := p.sessions[path]
	p.mu.Unlock()
	if s == nil {
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "no image of this run is called "+path)
		return
	}
	ctx, stop := s.untilPushEnds(r.Context())
	defer stop()
	r = r.WithContext(ctx)
	switch {
	case kind == "manifests" && r.Method == http.MethodPut:
		s.putManifest(w, r, last)
	case kind == "manifests":
		writeError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "this registry keeps no manifests")
	case m[3] == "" && r.Method == http.MethodHead:
		s.head(w, r, digest.Digest(last))
	case m[3] != "" && r.Method == http.MethodPost:
		p.initiateUpload(w, s)
	case m[3] != "":
		p.upload(w, r, s, last)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "not a request that a push makes")
	}
}

// untilPushEnds returns a request's context, which also ends with the push: the engine
// does not always close a connection whose body nobody reads.
func (s *session) untilPushEnds(request context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(request)
	s.mu.Lock()
	push := s.ctx
	s.mu.Unlock()
	if push == nil {
		cancel(context.Canceled)
		return ctx, func() {}
	}
	stop := context.AfterFunc(push, func() { cancel(context.Cause(push)) })
	return ctx, func() { stop(); cancel(nil) }
}

// has says what a push need not send, and its size in bytes, without which the
// engine cannot write its manifest.
func (s *session) has(ctx context.Context, d digest.Digest) (size int64, ok bool, err error) {
	if config, ok := s.config(d); ok || s.rewritesConfig() && d == s.image {
		return int64(len(config)), ok, nil // the registry may have it, and the proxy needs it
	}
	if s.rewriter != nil {
		return s.rewriter.has(ctx, s, d)
	}
	if size, ok, err = s.store.Has(ctx, d); err != nil || ok && size >= 0 {
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

func writeError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}
