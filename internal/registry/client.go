// Package registry is a client of the distribution protocol, at ECR's pace.
//
// A Repository asks for each digest once, mounts what a sibling repository has, sends the
// rest, retries what fails temporarily with a fresh body, renews the token, and keeps
// PutImage under ten a second. A push needs the six ECR actions of docker push and not one
// more; what reads a manifest or a blob back is in read.go, and optional.
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/httptransport"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// The IAM action that is asked for each request, which ECR and ECR Public both have.
const (
	actionHead     = "BatchCheckLayerAvailability"
	actionBegin    = "InitiateLayerUpload"
	actionSend     = "UploadLayerPart"
	actionCommit   = "CompleteLayerUpload"
	actionPutImage = "PutImage"
)

// Authorize returns user and password; where the password would be expired, which the
// registry has refused, it gets new ones.
type Authorize func(ctx context.Context, expired string) (user, password string, err error)

// A Client pushes to one registry. It is safe for concurrent use.
type Client struct {
	Host Host

	auth  Authorize // nil for a registry without accounts
	http  *http.Client
	agent string
	puts  rateLimit
	watch Watch

	mu        sync.Mutex
	repos     map[string]*Repository
	locations map[digest.Digest]blobLocation // where a blob is, for mounts
}

// blobLocation is a repository that holds a blob, and its size in bytes.
type blobLocation struct {
	repository string
	size       int64
}

// Watch begins the account of an upload to a repository: of what, "" for what
// is not known yet, and of how many bytes, 0 likewise. It may give nil.
type Watch func(repository, what string, size int64) *progress.Span

// NewClient makes a client; watch, where not nil, hears of every upload.
func NewClient(host Host, auth Authorize, agent string, watch Watch) *Client {
	if watch == nil {
		watch = func(string, string, int64) *progress.Span { return nil }
	}
	return &Client{
		Host: host, auth: auth, agent: agent, watch: watch,
		http:      &http.Client{Transport: httptransport.New(host.Name), CheckRedirect: checkRedirect},
		puts:      rateLimit{limit: PutsPerSecond, length: time.Second + 50*time.Millisecond},
		repos:     map[string]*Repository{},
		locations: map[digest.Digest]blobLocation{},
	}
}

// checkRedirect follows a registry to where a blob is, as net/http does, and never out of TLS:
// net/http would take a token along to the same host.
func checkRedirect(next *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= maxRedirects:
		return fmt.Errorf("it was redirected %d times", len(via))
	case via[0].URL.Scheme == "https" && next.URL.Scheme != "https":
		return fmt.Errorf("it was redirected to %s, without TLS", next.URL.Host)
	}
	return nil
}

const maxRedirects = 10

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one HTTP exchange; body is called again for each try, and nil
// where there is none or where it can be read once only.
type request struct {
	action, method, url string
	body                func() (io.ReadCloser, error)
	stream              io.Reader // a body that can be read once
	size                int64     // of the body, -1 for unknown
	contentType         string
	types               string // that an answer may have, "" for any
	accept              []int
}

// do sends a request, with one more try under a fresh token where the first
// one had expired. The answer's body is the caller's to close.
func (c *Client) do(ctx context.Context, repo string, r request) (*http.Response, error) {
	expired := ""
	for attempt := 0; ; attempt++ {
		resp, password, err := c.once(ctx, r, expired)
		if err == nil {
			return resp, nil
		}
		e := c.newError(repo, r.action, err)
		if attempt == 0 && c.auth != nil && e.expired() {
			if r.stream == nil {
				expired = password
				continue
			}
			_, _, err := c.auth(ctx, password) // whoever has the body tries again, with the new one
			e.renewed = err == nil
		}
		var auth *authError
		if errors.As(err, &auth) {
			return nil, auth.error // it says more than that a request failed
		}
		return nil, e
	}
}

// once sends a request, and returns the password that went with it, too.
func (c *Client) once(ctx context.Context, r request, expired string) (_ *http.Response, password string, err error) {
	var body io.Reader
	var stream *closeNotifier
	switch {
	case r.stream != nil:
		// The transport may read on for a moment after it has returned an
		// answer that came early; the caller's buffer is the caller's again
		// only when it has closed the body.
		stream = &closeNotifier{Reader: r.stream, closed: make(chan struct{})}
		body = stream
	case r.body != nil:
		rc, err := r.body()
		if err != nil {
			return nil, "", err
		}
		body = rc
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, body)
	if err != nil {
		return nil, "", err
	}
	if body != nil {
		req.ContentLength = r.size
		req.Header.Set("Content-Type", r.contentType)
	}
	if r.types != "" {
		req.Header.Set("Accept", r.types)
	}
	req.Header.Set("User-Agent", c.agent)
	// an upload may be sent elsewhere, without our token
	if c.auth != nil && req.URL.Host == c.Host.Name && req.URL.Scheme == c.Host.scheme() {
		var user string
		if user, password, err = c.auth(ctx, expired); err != nil {
			return nil, "", &authError{err}
		}
		if req.SetBasicAuth(user, password); c.Host.IsPublic() { // which has both as the token itself
			req.Header.Set("Authorization", "Bearer "+strings.TrimPrefix(req.Header.Get("Authorization"), "Basic "))
		}
	}
	resp, err := c.http.Do(req)
	if stream != nil {
		select {
		case <-stream.closed:
		case <-time.After(10 * time.Second): // the writer has stopped by then
		}
	}
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL is in our own error already
		}
		return nil, password, err
	}
	if err := transport.CheckError(resp, r.accept...); err != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
		_ = resp.Body.Close()
		return nil, password, err
	}
	return resp, password, nil
}

// authError is user and password that could not be had.
type authError struct{ error }

// closeNotifier tells when a body is closed.
type closeNotifier struct {
	io.Reader
	once   sync.Once
	closed chan struct{}
}

func (c *closeNotifier) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// doDiscard is do for an exchange whose answer has no body of interest, tried
// again with growing pauses while the failure is a passing one.
func (c *Client) doDiscard(ctx context.Context, repo string, r request) (h http.Header, status int, err error) {
	err = retry(ctx, func() error {
		resp, err := c.do(ctx, repo, r)
		if err != nil {
			return err
		}
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
		_ = resp.Body.Close()
		h, status = resp.Header, resp.StatusCode
		return nil
	})
	return h, status, err
}

// PutsPerSecond is ECR's quota for PutImage.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
const PutsPerSecond = 10

// rateLimit lets at most limit pass in any span of the given length; the first
// ones go at once.
type rateLimit struct {
	limit  int
	length time.Duration

	mu   sync.Mutex
	last []time.Time // when the last ones go, oldest first
}

func (w *rateLimit) wait(ctx context.Context) error {
	w.mu.Lock()
	now := time.Now()
	at := now
	if len(w.last) == w.limit {
		if t := w.last[0].Add(w.length); t.After(now) {
			at = t
		}
		w.last = w.last[1:]
	}
	w.last = append(w.last, at)
	w.mu.Unlock()
	if at == now {
		return nil
	}
	select {
	case <-time.After(time.Until(at)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
