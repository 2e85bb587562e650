package dockerpush

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/enginetest"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// TestProxyConformance runs the part of the OCI distribution specification's suite that is
// about a push against the proxy, with its password. Left out is what no engine of the classic
// store asks of a registry that it pushes an image to: to read, delete, list or mount, and
// anything but an image by SHA-256. Custom fields are among it, since one of them is an index.
func TestProxyConformance(t *testing.T) {
	if os.Getenv("ECSBUILD_TEST_ENGINES") == "" {
		t.Skip("needs the conformance suite: make test")
	}
	script := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(filepath.Join("..", "..", "script", "engine"), args...).Output()
		if err != nil {
			t.Fatalf("script/engine %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	script("install", "conformance")
	w := newWorld(t, &enginetest.Engine{})
	p := newProxy(nil)
	if err := p.listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	front := httptest.NewServer(&readable{proxy: p, blobs: w.local, manifests: map[string]image.Manifest{}})
	t.Cleanup(front.Close)
	suite := exec.Command(script("where", "conformance"))
	suite.Dir = t.TempDir()
	suite.Env = []string{"PATH=" + os.Getenv("PATH"), "OCI_REGISTRY=" + strings.TrimPrefix(front.URL, "http://"),
		"OCI_TLS=disabled",
		"OCI_USERNAME=" + proxyUser, "OCI_PASSWORD=" + p.password}
	for _, repo := range []string{"one", "two"} {
		push := w.push("sha256:00", plan.Build{}, nil, nil)
		push.Image.Repository = repo
		s := p.open(push)
		s.ctx = t.Context() // a push runs
		suite.Env = append(suite.Env, "OCI_REPO"+map[string]string{"one": "1", "two": "2"}[repo]+"="+s.path)
	}
	for _, off := range []string{"API_PULL", "API_REFERRER", "API_BLOBS_DELETE", "API_BLOBS_ATOMIC",
		"API_BLOBS_MOUNT_ANONYMOUS",
		"API_MANIFESTS_DELETE", "API_MANIFESTS_ATOMIC", "API_TAGS_DELETE", "API_TAGS_ATOMIC", "API_TAGS_LIST", "DATA_INDEX",
		"DATA_INDEX_LIST", "DATA_ARTIFACT", "DATA_SUBJECT", "DATA_SUBJECT_MISSING", "DATA_ARTIFACT_LIST", "DATA_SUBJECT_LIST",
		"DATA_CUSTOM_FIELDS", "DATA_SHA512"} {
		suite.Env = append(suite.Env, "OCI_"+off+"=false")
	}
	printed, err := suite.CombinedOutput()
	_, result, found := strings.Cut(string(printed), "OCI Conformance Result: ")
	if err != nil || !found || !strings.HasPrefix(result, "Pass") {
		t.Fatalf("%v\n%s", err, printed)
	}
	t.Log(result)
}

// readable is a proxy from which what has been pushed can be read as well, as the suite does after
// each push: blobs from the registry that they went to, manifests from those that were accepted.
type readable struct {
	proxy *proxy
	blobs http.Handler

	mu        sync.Mutex
	manifests map[string]image.Manifest // by path
}

func (h *readable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := requestPath.FindStringSubmatch(r.URL.Path)
	if m == nil {
		h.proxy.ServeHTTP(w, r)
		return
	}
	repository, kind, upload, reference := m[1], m[2], m[3], m[4]
	switch {
	case kind == "manifests" && r.Method == http.MethodGet:
		h.mu.Lock()
		found, ok := h.manifests[r.URL.Path]
		h.mu.Unlock()
		if !ok {
			writeError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "")
			return
		}
		w.Header().Set("Content-Type", found.MediaType)
		w.Header().Set("Content-Length", strconv.Itoa(len(found.Data)))
		w.Header().Set("Docker-Content-Digest", found.Digest.String())
		_, _ = w.Write(found.Data)
	case kind == "blobs" && upload == "" && r.Method == http.MethodGet:
		r.URL.Path = "/v2/shop/blobs/" + reference
		h.blobs.ServeHTTP(w, r)
	case kind == "manifests" && r.Method == http.MethodPut:
		data, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(data))
		answer := httptest.NewRecorder()
		h.proxy.ServeHTTP(answer, r)
		if answer.Code == http.StatusCreated {
			d := digest.FromBytes(data)
			h.mu.Lock()
			for _, name := range []string{reference, d.String()} {
				h.manifests["/v2/"+repository+"/manifests/"+name] = image.Manifest{MediaType: r.Header.Get("Content-Type"),
					Digest: d, Data: data}
			}
			h.mu.Unlock()
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	default:
		h.proxy.ServeHTTP(w, r)
	}
}
