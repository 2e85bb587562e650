// Package localregistry is the registry of run --local and serve: on loopback, with its images in a folder.
// It speaks the protocol of https://github.com/opencontainers/distribution-spec, version 1.1.
package localregistry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Registry is a registry that keeps its images in a folder. Several processes may use one folder.
type Registry struct {
	dir string

	mu      sync.Mutex
	uploads map[string]*upload
}

// New opens the registry in dir, which is made when the first image comes.
func New(dir string) *Registry {
	return &Registry{dir: dir, uploads: map[string]*upload{}}
}

// defaultPort is tried first, so that definitions of earlier runs stay good.
const defaultPort = "5000"

// Serve listens on loopback until ctx ends, and gives its address, HOST:PORT.
func (l *Registry) Serve(ctx context.Context) (addr string, stop func(), err error) {
	portFile := filepath.Join(l.dir, "port")
	ports := []string{defaultPort, "0"}
	if data, err := os.ReadFile(portFile); err == nil && len(bytes.TrimSpace(data)) > 0 {
		ports = append([]string{string(bytes.TrimSpace(data))}, ports...)
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
	if len(ports) == 2 { // another process may have the port of this folder now
		_ = os.WriteFile(portFile, []byte(port+"\n"), 0o644)
	}
	server := &http.Server{Handler: onThisHost(l), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	return addr, func() { _ = server.Close(); serving.Wait(); l.cancelUploads(0) }, nil
}

// onThisHost refuses what a web page has the browser of somebody on this host ask for: by a
// name of its own that is made to lead here, or of another origin.
func onThisHost(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		switch {
		case net.ParseIP(strings.Trim(host, "[]")) == nil && host != "localhost" && host != "host.docker.internal":
			refuse(w, http.StatusMisdirectedRequest, "DENIED", "this registry is not "+host)
			return
		case r.Header.Get("Origin") != "":
			refuse(w, http.StatusForbidden, "DENIED", "this registry is not for web pages")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// prepare makes the folder, and keeps it out of git.
func (l *Registry) prepare() error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, ".gitignore"), []byte("*\n"), 0o644)
}

// The specification's names of repositories and tags.
const (
	namePattern = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*`
	tagPattern  = `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
)

// maxName is the longest name of a folder.
const maxName = 255

var validName = regexp.MustCompile(`^` + namePattern + `$`)

var requestPath = regexp.MustCompile(
	`^/v2/(` + namePattern + `)/(manifests|blobs/uploads|blobs|tags|referrers)/([^/]*)$`)

func (l *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if r.URL.Path == "/v2/" {
		return
	}
	m := requestPath.FindStringSubmatch(r.URL.Path)
	if m == nil || len(url.PathEscape(m[1])) > maxName {
		refuse(w, http.StatusNotFound, "NAME_INVALID", "there is nothing at "+r.URL.Path)
		return
	}
	repo := l.repository(m[1])
	var err error
	switch last := m[3]; {
	case m[2] == "blobs/uploads":
		err = l.serveUpload(w, r, repo, last)
	case m[2] == "blobs":
		err = repo.serveBlob(w, r, last)
	case m[2] == "manifests":
		err = repo.serveManifest(w, r, last)
	case m[2] == "tags" && last == "list" && r.Method == http.MethodGet:
		err = repo.listTags(w, r)
	case m[2] == "referrers" && r.Method == http.MethodGet:
		err = repo.listReferrers(w, r, last)
	default:
		err = errMethod
	}
	var f failure
	switch {
	case errors.As(err, &f):
		refuse(w, f.status, f.code, f.message)
	case err != nil:
		refuse(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
	}
}

// repository is one of a registry; it is there once something has been put into it.
type repository struct{ name, folder string }

func (l *Registry) repository(name string) repository {
	return repository{name, filepath.Join(l.dir, url.PathEscape(name))} // no name leads out of dir
}

// url is where something of a repository is.
func (r repository) url(kind, last string) string {
	return fmt.Sprintf("/v2/%s/%s/%s", r.name, kind, last)
}

// temporary makes a file for a blob that is on its way. One that a killed process has left is
// removed after a day.
func (r repository) temporary() (*os.File, error) {
	if err := os.MkdirAll(r.folder, 0o755); err != nil {
		return nil, err
	}
	left, _ := filepath.Glob(filepath.Join(r.folder, "upload-*"))
	for _, file := range left {
		if st, err := os.Stat(file); err == nil && time.Since(st.ModTime()) > 24*time.Hour {
			_ = os.Remove(file)
		}
	}
	return os.CreateTemp(r.folder, "upload-*")
}

// keep closes a temporary file and gives it its name, or removes it where err says that it
// is not whole.
func keep(f *os.File, name string, err error) error {
	if err == nil {
		err = f.Chmod(0o644)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o755)
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// failure is what a client did wrong, with a code of the specification.
type failure struct {
	status        int
	code, message string
}

func (f failure) Error() string { return f.message }

var errMethod = failure{http.StatusMethodNotAllowed, "UNSUPPORTED", "this method is not supported here"}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

// isMissing says that a file, or the folder of its repository, is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
