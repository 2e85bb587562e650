// Package enginetest is a Docker engine or buildkitd for unit tests: it speaks Docker's
// API and BuildKit's protocols on a socket, and builds what a function of the test says.
// Nothing runs, and no image is real but in its bytes.
package enginetest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/session"
	"google.golang.org/grpc"
)

// Engine is one engine. Its fields are set before Start.
type Engine struct {
	Version    string // "" for 28.5.2
	Containerd bool   // the image store
	Far        bool   // it has a loopback of its own: no registry of ours can be reached
	NoPush     string // what a push ends with, "" for none
	Platform   string // "" for linux/amd64
	Labels     map[string]string

	// Before, unless nil, is called before the engine gives a name ("tag"), and between a push
	// and the digest that it then writes down ("digest"). It does both for a client that has gone, too.
	Before func(what string)

	// Build makes an image: its answer are the keys of the exporter.
	Build func(ctx context.Context, b *Build) (map[string]string, error)

	mu     sync.Mutex
	images map[string]v1.Image // by ID and by name
	tags   []string            // names that an image has got or lost, as +NAME and -NAME
	jobs   map[string]*job     // by ref
	pruned []string            // filters

	ctx      context.Context // ends with the engine
	handlers sync.WaitGroup
	sessions *session.Manager
	grpc     *grpc.Server
	api      *http.Server
}

// Start serves it until the test ends. Address is Docker's or BuildKit's.
func (e *Engine) Start(t *testing.T) (docker, buildkit string) {
	t.Helper()
	var err error
	if e.sessions, err = session.NewManager(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.ctx = ctx
	e.images, e.jobs = map[string]v1.Image{}, map[string]*job{}
	e.grpc = grpc.NewServer()
	controlapi.RegisterControlServer(e.grpc, &control{engine: e})
	e.api = &http.Server{Handler: e}
	var running sync.WaitGroup
	dir := t.TempDir()
	serve := func(file string, f func(net.Listener) error) string {
		l, err := net.Listen("unix", filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { _ = f(l) })
		return "unix://" + filepath.Join(dir, file)
	}
	docker, buildkit = serve("docker.sock", e.api.Serve), serve("buildkit.sock", e.grpc.Serve)
	t.Cleanup(func() {
		cancel()
		_ = e.api.Close()
		e.grpc.Stop()
		running.Wait()
		e.handlers.Wait()
	})
	return docker, buildkit
}

// Add returns the engine an image, and says what the engine calls it.
func (e *Engine) Add(img v1.Image) (id string) {
	hash, err := img.ConfigName()
	if err != nil {
		panic(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.images[hash.String()] = img
	return hash.String()
}

// Tags are the names that images have got and lost, as +NAME and -NAME.
func (e *Engine) Tags() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.tags...)
}

// Pruned are the filters of what BuildKit was asked to remove from its cache.
func (e *Engine) Pruned() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.pruned)
}

func (e *Engine) version() string {
	if e.Version == "" {
		return "28.5.2"
	}
	return e.Version
}

var apiPath = regexp.MustCompile(`^/v[0-9.]+/(.*)$`)

func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.handlers.Add(1)
	defer e.handlers.Done()
	path := r.URL.Path
	if m := apiPath.FindStringSubmatch(path); m != nil {
		path = "/" + m[1]
	}
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	image := func(suffix string) string {
		return strings.TrimSuffix(strings.TrimPrefix(path, "/images/"), suffix)
	}
	switch {
	case path == "/_ping":
		w.Header().Set("Api-Version", "1.51")
		w.Header().Set("Ostype", "linux")
	case path == "/info":
		info := map[string]any{"ServerVersion": e.version(), "DockerRootDir": "/"}
		if e.Containerd {
			info["DriverStatus"] = [][]string{{"driver-type", "io.containerd.snapshotter.v1"}}
		}
		answer(info)
	case path == "/version":
		answer(map[string]any{"Version": e.version(), "ApiVersion": "1.51"})
	case path == "/grpc":
		e.serveGRPC(w)
	case path == "/session":
		_ = e.sessions.HandleHTTPRequest(e.ctx, w, r)
	case path == "/auth":
		e.login(w, r)
	case path == "/images/json":
		e.list(answer)
	case path == "/images/get":
		e.save(w, r.URL.Query()["names"])
	case strings.HasSuffix(path, "/tag"):
		e.tag(w, image("/tag"), r.URL.Query().Get("repo")+":"+r.URL.Query().Get("tag"))
	case strings.HasSuffix(path, "/push"):
		e.push(w, r, image("/push")+":"+r.URL.Query().Get("tag"))
	case strings.HasSuffix(path, "/json"):
		e.inspect(w, image("/json"))
	case r.Method == http.MethodDelete:
		n := image("")
		e.mu.Lock()
		delete(e.images, n)
		e.tags = append(e.tags, "-"+n)
		e.mu.Unlock()
		answer([]any{})
	default:
		fail(w, http.StatusNotFound, "page not found")
	}
}

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}

// serveGRPC hands the connection to BuildKit's server.
func (e *Engine) serveGRPC(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
	l := &oneConn{conn: conn, done: make(chan struct{})}
	_ = e.grpc.Serve(l)
}

// oneConn is a listener of one connection.
type oneConn struct {
	conn net.Conn
	once sync.Once
	done chan struct{}
}

func (l *oneConn) Accept() (c net.Conn, err error) {
	l.once.Do(func() { c = &closing{l.conn, sync.OnceFunc(func() { close(l.done) })} })
	if c == nil {
		<-l.done
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

type closing struct {
	net.Conn
	closed func()
}

func (c *closing) Close() error { c.closed(); return c.Conn.Close() }

// login does what docker login does: it asks the registry.
func (e *Engine) login(w http.ResponseWriter, r *http.Request) {
	var auth struct{ Username, Password, ServerAddress string }
	_ = json.NewDecoder(r.Body).Decode(&auth)
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://"+auth.ServerAddress+"/v2/", nil)
	if err != nil || e.Far {
		fail(w, http.StatusInternalServerError, "Get \"http://"+auth.ServerAddress+"/v2/\": connection refused")
		return
	}
	req.SetBasicAuth(auth.Username, auth.Password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		fail(w, http.StatusInternalServerError, fmt.Sprintf("login: %v", err))
		return
	}
	_ = resp.Body.Close()
	fmt.Fprint(w, `{"Status":"Login Succeeded"}`)
}

func (e *Engine) find(n string) v1.Image {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.images[n]
}

func (e *Engine) before(what string) {
	if e.Before != nil {
		e.Before(what)
	}
}

func (e *Engine) tag(w http.ResponseWriter, id, n string) {
	img := e.find(id)
	if img == nil {
		fail(w, http.StatusNotFound, "No such image: "+id)
		return
	}
	e.before("tag")
	e.mu.Lock()
	e.images[n], e.tags = img, append(e.tags, "+"+n)
	e.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
}

// push pushes as a docker engine does: by the registry protocol, to whom it is told.
func (e *Engine) push(w http.ResponseWriter, r *http.Request, n string) {
	var auth struct{ Username, Password string }
	raw, _ := base64.URLEncoding.DecodeString(r.Header.Get("X-Registry-Auth"))
	_ = json.Unmarshal(raw, &auth)
	ref, err := name.ParseReference(n, name.Insecure)
	img := e.find(n)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case err == nil && img == nil:
		err = fmt.Errorf("no such image: %s", n)
	case e.NoPush != "":
		err = fmt.Errorf("%s", e.NoPush)
	case err == nil:
		err = remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: auth.Username, Password: auth.Password}),
			remote.WithContext(r.Context()),
			remote.WithRetryBackoff(remote.Backoff{Duration: time.Millisecond, Steps: 1}))
		if err == nil {
			e.before("digest")
		}
	}
	if err != nil {
		_ = json.NewEncoder(w).Encode(map[string]any{"errorDetail": map[string]string{"message": err.Error()},
			"error": err.Error()})
	}
}

func (e *Engine) save(w http.ResponseWriter, names []string) {
	img := e.find(strings.Join(names, ""))
	if img == nil {
		fail(w, http.StatusNotFound, "No such image")
		return
	}
	_ = tarball.Write(name.MustParseReference("saved:1"), uncompressed{img}, w)
}

// list has all images, whatever the filter: what is asked for is among them.
func (e *Engine) list(answer func(any)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	images := []map[string]any{}
	for n := range e.images {
		key := "RepoTags"
		if strings.Contains(n, "@") {
			key = "RepoDigests"
		}
		if !strings.HasPrefix(n, "sha256:") {
			images = append(images, map[string]any{key: []string{n}})
		}
	}
	answer(images)
}

func (e *Engine) inspect(w http.ResponseWriter, n string) {
	img := e.find(n)
	if img == nil {
		fail(w, http.StatusNotFound, "No such image: "+n)
		return
	}
	d, err := img.Digest()
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"Id": n, "RepoDigests": []string{n + "@" + d.String()}})
}

// Name returns an image a name in the engine, as docker pull does.
func (e *Engine) Name(n string, img v1.Image) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.images[n] = img
}
