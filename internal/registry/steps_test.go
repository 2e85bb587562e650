package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// One test a step of the protocol, against a server of a few lines.

func respond(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"words"}]}`, code)
	return true
}

func TestCheckExisting(t *testing.T) {
	data := []byte("blob")
	status := http.StatusOK
	c, log := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		if status == http.StatusOK {
			return false
		}
		return respond(w, status, "UNKNOWN")
	})
	r := c.Repository("shop")
	if size, ok, err := r.Has(t.Context(), digest.FromBytes(data)); ok || err != nil || size != 0 {
		t.Errorf("%d %v %v", size, ok, err)
	}
	if err := putBytes(t, r, data); err != nil {
		t.Fatal(err)
	}
	asked := len(*log)
	if size, ok, err := r.Has(t.Context(), digest.FromBytes(data)); !ok || err != nil || size != 4 || len(*log) != asked {
		t.Errorf("%d %v %v", size, ok, err)
	}
	status = http.StatusForbidden
	var e *Error
	if err := r.CanRead(t.Context()); !errors.As(err, &e) || e.Action != "ecr:BatchCheckLayerAvailability" ||
		e.Status() != 403 {
		t.Errorf("%v", err)
	}
}

// TestProbe: the upload that it begins is the one that the first blob takes.
func TestProbe(t *testing.T) {
	c, log := server(t, nil)
	r := c.Repository("shop")
	if err := r.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := putBytes(t, r, []byte("blob")); err != nil {
		t.Fatal(err)
	}
	posts := 0
	for _, l := range *log {
		if strings.HasPrefix(l, "POST") {
			posts++
		}
	}
	if posts != 1 {
		t.Errorf("%v", *log)
	}
	c, _ = server(t, func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPost && respond(w, http.StatusNotFound, "NAME_UNKNOWN")
	})
	if err := c.Repository("gone").Probe(t.Context()); !IsMissing(err) {
		t.Errorf("%v", err)
	}
	if IsMissing(errors.New("other")) {
		t.Error("any error is a missing repository")
	}
}

// TestMount: a blob that a sibling repository has is asked of it.
func TestMount(t *testing.T) {
	data := []byte("shared")
	var mounts []string
	grant := true
	c, _ := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		from := r.URL.Query().Get("from")
		if from == "" {
			return false
		}
		mounts = append(mounts, from)
		if grant {
			w.WriteHeader(http.StatusCreated)
		}
		return grant
	})
	if err := putBytes(t, c.Repository("one"), data); err != nil {
		t.Fatal(err)
	}
	if err := putBytes(t, c.Repository("two"), data); err != nil || len(mounts) != 1 {
		t.Fatalf("%v, %v", mounts, err)
	}
	if size, ok, err := c.Repository("two").Has(t.Context(), digest.FromBytes(data)); size != 6 || !ok || err != nil {
		t.Errorf("%d %v %v", size, ok, err)
	}
	// Of a stream nothing need be read.
	if commit, err := c.Repository("three").Stream(t.Context(), digest.FromBytes(data),
		bytes.NewReader(data)); err != nil || commit(t.Context(), digest.FromBytes(data)) != nil {
		t.Errorf("%v", err)
	}
	grant = false
	if err := putBytes(t, c.Repository("four"), data); err != nil {
		t.Errorf("a refused mount is no upload: %v", err)
	}
}

// TestStream sends a body whose digest nobody knows before its end.
func TestStream(t *testing.T) {
	c, _ := server(t, nil)
	var sent int64
	var mu sync.Mutex
	c.watch = func(string, string, int64) *progress.Span { mu.Lock(); sent++; mu.Unlock(); return nil }
	r := c.Repository("shop")
	data := bytes.Repeat([]byte("layer"), 1000)
	commit, err := r.Stream(t.Context(), "", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := commit(t.Context(), digest.FromBytes(data)); err != nil || sent != 1 {
		t.Errorf("%d uploads, %v", sent, err)
	}
	if size, ok, _ := r.Has(t.Context(), digest.FromBytes(data)); !ok || size != int64(len(data)) {
		t.Errorf("%d %v", size, ok)
	}
	commit, err = r.Stream(t.Context(), "", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := commit(t.Context(), digest.FromString("other")); err == nil {
		t.Error("another digest is committed")
	}
}

// TestNextLocation: an upload may go elsewhere, without the token, and never in the clear.
func TestNextLocation(t *testing.T) {
	var elsewhere *httptest.Server
	var got []string
	elsewhere = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusCreated)
	}))
	defer elsewhere.Close()
	location := ""
	c, _ := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusAccepted)
		return true
	})
	c.auth = func(context.Context, string) (string, string, error) { return "AWS", "secret", nil }
	host := c.Host.Name
	for _, tt := range []struct {
		location string
		refused  string
	}{
		{elsewhere.URL + "/up", "without TLS"},
		{"http://user@" + host + "/v2/shop/blobs/uploads/x", ""},
		{"https://" + host + "/v2/", "server gave HTTP response"},
		{":", "missing protocol scheme"},
	} {
		location = tt.location
		_, err := c.Repository("shop").initiateUpload(t.Context(), "")
		if tt.refused == "without TLS" || tt.refused == "missing protocol scheme" {
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("%s: %v", tt.location, err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", tt.location, err)
		}
	}
	// A push says so at once, in the same words.
	location = elsewhere.URL + "/up"
	err := putBytes(t, c.Repository("shop"), []byte("x"))
	var refused *LocationError
	if !errors.As(err, &refused) {
		t.Errorf("a push: %v", err)
	}
	if len(got) != 0 {
		t.Errorf("%v was sent elsewhere", got)
	}
	// The same host by another scheme gets no token either: the request fails before.
	u := &upload{repo: c.Repository("shop"), location: "https://" + host + "/x"}
	if err := u.streamBlob(t.Context(), strings.NewReader("x"), 1); err == nil {
		t.Error("plain HTTP is taken for TLS")
	}
}

// TestReadBack is for reuse: manifests and configs.
func TestReadBack(t *testing.T) {
	c, _ := server(t, nil)
	r := c.Repository("shop")
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`, mediaType, digest.FromBytes(config), len(config))
	if err := errors.Join(putBytes(t, r, config),
		r.PutManifest(t.Context(), "v1", mediaType, []byte(manifest))); err != nil {
		t.Fatal(err)
	}
	if got, data, ok, err := r.Manifest(t.Context(), "v1"); err != nil || !ok || got != mediaType ||
		string(data) != manifest {
		t.Errorf("%s %s %v %v", got, data, ok, err)
	}
	if _, _, ok, err := r.Manifest(t.Context(), "v2"); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	if d, err := r.TagDigest(t.Context(), "v1"); err != nil || d != digest.FromString(manifest) {
		t.Errorf("%s %v", d, err)
	}
	if d, err := r.TagDigest(t.Context(), "v2"); err != nil || d != "" {
		t.Errorf("%s %v", d, err)
	}
	if data, err := r.Blob(t.Context(), digest.FromBytes(config)); err != nil || !bytes.Equal(data, config) {
		t.Errorf("%s %v", data, err)
	}
	c, _ = server(t, func(w http.ResponseWriter, r *http.Request) bool { _, _ = io.WriteString(w, "other"); return true })
	if _, err := c.Repository("shop").Blob(t.Context(), digest.FromBytes(config)); err == nil ||
		!strings.Contains(err.Error(), "arrived as something else") {
		t.Errorf("%v", err)
	}
}

// TestManifestByDigest: what a digest names is that.
func TestManifestByDigest(t *testing.T) {
	c, _ := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
		_, _ = io.WriteString(w, "{}")
		return true
	})
	r := c.Repository("shop")
	_, data, ok, err := r.Manifest(t.Context(), digest.FromString("{}").String())
	if err != nil || !ok || string(data) != "{}" {
		t.Errorf("%q, %v, %v", data, ok, err)
	}
	if _, _, _, err := r.Manifest(t.Context(), digest.FromString("other").String()); err == nil ||
		!strings.Contains(err.Error(), "arrived as something else") {
		t.Error(err)
	}
}

// TestCheckRedirect: a registry that sends us out of TLS is not followed.
func TestCheckRedirect(t *testing.T) {
	get := func(url string) *http.Request { return httptest.NewRequest(http.MethodGet, url, nil) }
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"https://registry.example/v2/", "https://blobs.example/x", true},
		{"https://registry.example/v2/", "http://registry.example/x", false},
		{"http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/x", true},
	} {
		if err := checkRedirect(get(tt.to), []*http.Request{get(tt.from)}); (err == nil) != tt.ok {
			t.Errorf("%s to %s: %v", tt.from, tt.to, err)
		}
	}
	many := slices.Repeat([]*http.Request{get("https://a.example")}, maxRedirects)
	if err := checkRedirect(get("https://a.example"), many); err == nil {
		t.Error("it is redirected for good")
	}
}

// TestClaim: one sends, the others wait, and one of them sends where the first gave up.
func TestClaim(t *testing.T) {
	c, _ := server(t, nil)
	r := c.Repository("shop")
	d := digest.FromString("x")
	release, there, err := r.Claim(t.Context(), d)
	if err != nil || there {
		t.Fatal(there, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.Claim(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	next := make(chan bool)
	go func() {
		release, there, err := r.Claim(t.Context(), d)
		if err == nil && !there {
			release()
		}
		next <- err == nil && !there
	}()
	release()
	if !<-next {
		t.Error("nobody sends after the first has given up")
	}
}

// TestAuthFailure: why there is no token says more than that a request failed.
func TestAuthFailure(t *testing.T) {
	c, _ := server(t, nil)
	reason := errors.New("the credentials have expired")
	c.auth = func(context.Context, string) (string, string, error) { return "", "", reason }
	if _, _, err := c.Repository("shop").Has(t.Context(), digest.FromString("x")); !errors.Is(err, reason) ||
		err.Error() != reason.Error() {
		t.Errorf("%v", err)
	}
}

// TestForeign: the answer of a proxy is not a registry's.
func TestForeign(t *testing.T) {
	c, _ := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<html>blocked</html>")
		return true
	})
	_, err := c.Repository("shop").initiateUpload(t.Context(), "")
	var e *Error
	if !errors.As(err, &e) || !e.Foreign() || e.IsImmutable() {
		t.Errorf("%v", err)
	}
}

func TestPartition(t *testing.T) {
	for region, want := range map[string]string{"eu-central-1": "aws amazonaws.com",
		"cn-north-1": "aws-cn amazonaws.com.cn", "us-gov-west-1": "aws-us-gov amazonaws.com", "eusc-de-east-1": "aws-eusc amazonaws.eu", "": "aws amazonaws.com"} {
		if p := PartitionOf(region); p.ID+" "+p.Domain != want {
			t.Errorf("%s: %v", region, p)
		}
	}
	if h := DefaultHost("123456789012", "cn-north-1"); h.Account() != "123456789012" || h.Region() != "cn-north-1" ||
		!IsECR(h.Name, "cn-north-1") {
		t.Errorf("%v", h)
	}
	if DefaultHost("", "us-east-1").Name != "" {
		t.Error("a host without an account")
	}
}
