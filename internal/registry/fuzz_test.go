package registry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/image"
)

// hostileRegistry answers every request in the same way.
type hostileRegistry struct {
	*testing.T
	host   string
	status int
	header http.Header
	body   []byte
}

func (h *hostileRegistry) RoundTrip(r *http.Request) (*http.Response, error) {
	if (r.URL.Host != h.host || r.URL.Scheme != "https") && r.Header.Get("Authorization") != "" {
		h.Errorf("credentials go to %s", r.URL)
	}
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	return &http.Response{StatusCode: h.status, Header: h.header.Clone(), Body: io.NopCloser(bytes.NewReader(h.body)),
		ContentLength: int64(len(h.body)), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

// FuzzAnswer: whatever a registry answers, credentials go to it alone, and what is read is what
// was asked for.
func FuzzAnswer(f *testing.F) {
	f.Add(202, "Location", "/v2/shop/blobs/uploads/1", []byte{})
	f.Add(307, "Location", "https://elsewhere.example/", []byte{})
	f.Add(202, "Location", "http://123456789012.dkr.ecr.us-east-1.amazonaws.com/v2/x", []byte{})
	f.Add(401, "WWW-Authenticate", `Bearer realm="https://elsewhere.example/token"`, []byte(`{"errors":null}`))
	f.Add(200, "Docker-Content-Digest", "sha256", []byte(`{"config":{"digest":"x"},"layers":null}`))
	f.Add(429, "Retry-After", "-1", []byte(`{"errors":[{"code":"TOOMANYREQUESTS","message":1}]}`))
	auth := func(context.Context, string) (string, string, error) { return "AWS", "token", nil }
	d := digest.FromString("x")
	f.Fuzz(func(t *testing.T, status int, name, value string, body []byte) {
		if status < 100 || status > 599 || strings.ContainsAny(name+value, "\r\n") {
			return
		}
		c := NewClient(DefaultHost("123456789012", "us-east-1"), auth, "test", nil)
		c.http.Transport = &hostileRegistry{t, c.Host.Name, status, http.Header{http.CanonicalHeaderKey(name): {value}}, body}
		r := c.Repository("shop")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, _, _ = r.Has(ctx, d)
		_ = image.PutBytes(ctx, r, d, []byte("x"))
		_ = r.PutManifest(ctx, "latest", image.DockerManifest, []byte("{}"))
		if _, data, ok, err := r.Manifest(ctx, d.String()); ok && err == nil && digest.FromBytes(data) != d {
			t.Errorf("%s was taken for %s", data, d)
		}
		if data, err := r.Blob(ctx, d); err == nil && digest.FromBytes(data) != d {
			t.Errorf("%s was taken for %s", data, d)
		}
		_, _ = r.TagDigest(ctx, "latest")
	})
}
