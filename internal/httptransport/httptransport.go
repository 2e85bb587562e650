// Package httptransport is the HTTP transport of a run: it ends requests that stall, names
// the proxy that refuses one, and does not follow a server to addresses that are not public.
package httptransport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// A ProxyError is a proxy that does not let a connection through.
type ProxyError struct {
	Proxy  string // its address, without user information
	Status int    // of its answer to CONNECT, 0 where it could not be reached
	Err    error
}

func (e *ProxyError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("the proxy %s answers %d %s", e.Proxy, e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the proxy %s cannot be reached: %v", e.Proxy, e.Err)
}

func (e *ProxyError) Unwrap() error { return e.Err }

// A StalledError is a request that was given up, since nothing moved any more.
type StalledError struct {
	After time.Duration
	Bytes int // that came in that time, fewer than minProgress
}

func (e *StalledError) Error() string {
	if e.Bytes > 0 {
		return fmt.Sprintf("only %d bytes in %v", e.Bytes, e.After)
	}
	return fmt.Sprintf("no data for %v", e.After)
}

// Stalled is for callers that have no use for the type.
func (e *StalledError) Stalled() bool { return true }

// How long a peer may be silent: with a blob it may have something to write to
// its disks first.
var (
	stallTimeout     = 30 * time.Second
	blobStallTimeout = 2 * time.Minute
)

// minProgress is what a peer must send in that time, in bytes, unless its answer ends. For a blob
// it has the longer one: a proxy that looks for viruses lets some bytes through while it does.
const minProgress = 16 << 10

// New makes a transport for requests to peer, a host with or without a port, and to
// wherever peer sends us on: never to an address that is not public, unless peer has
// one of the same kind. That is an *AddressError.
func New(peer string) http.RoundTripper {
	addresses := newAddressGuard(peer)
	return &stallGuard{addresses: addresses, proxied: http.ProxyFromEnvironment, next: &http.Transport{
		Proxy:                  addresses.proxy(http.ProxyFromEnvironment),
		OnProxyConnectResponse: CheckConnectResponse,
		DialContext:            addresses.dial,
		TLSHandshakeTimeout:    10 * time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    32,
		MaxConnsPerHost:        64,       // a hundred images would open two hundred at the start
		WriteBufferSize:        64 << 10, // allocated for each connection, of which a hundred images open two hundred
		// A second handshake with a host is half the work.
		TLSClientConfig: &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		// One connection a layer: HTTP/2 would share the window of one among them.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}
}

// ProxyAnswer makes an error of a proxy's refusal, for which net/http has words
// alone.
func CheckConnectResponse(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return &ProxyError{Proxy: proxy.Host, Status: answer.StatusCode}
}

// stallGuard ends requests whose peer stands still, and names the proxy that could
// not be reached. Time in which the caller's own side stands still does not count.
type stallGuard struct {
	next      *http.Transport
	proxied   func(*http.Request) (*url.URL, error)
	addresses *addressGuard
}

// CloseIdleConnections is what http.Client asks for.
func (g *stallGuard) CloseIdleConnections() { g.next.CloseIdleConnections() }

func (g *stallGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.addresses.checkLiteral(req.Context(), req.URL); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	limit := stallTimeout
	if req.Method == http.MethodPatch || req.Method == http.MethodPut {
		limit = blobStallTimeout
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(req.Context(), withTLS{}, req.URL.Scheme == "https"))
	w, answer := &stallTimer{limit: limit, cancel: cancel}, &stallTimer{limit: limit, slow: limit, cancel: cancel}
	if req.Method == http.MethodGet {
		answer.slow = blobStallTimeout
	}
	// It does not count how long a request waits for a free connection.
	guardedReq := req.WithContext(httptrace.WithClientTrace(ctx,
		&httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { w.start() }}))
	if req.Body != nil && req.Body != http.NoBody {
		// While the body is read, it is its source that is waited for.
		guardedReq.Body = &timedBody{ReadCloser: req.Body, before: w.stop, after: func(int) { w.start() }}
	}
	resp, err := g.next.RoundTrip(guardedReq)
	w.end() // the body may be read on for a moment
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		var stalled *StalledError
		if errors.As(cause, &stalled) {
			return nil, stalled
		}
		return nil, g.proxyError(req, err)
	}
	resp.Body = &timedBody{ReadCloser: resp.Body, before: answer.resume, after: answer.pause,
		closed: func() { cancel(nil) }, cause: ctx}
	return resp, nil
}

// proxyError names the proxy where the dialer failed to reach it.
func (g *stallGuard) proxyError(req *http.Request, err error) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "proxyconnect" {
		return err
	}
	proxy, perr := g.proxied(req)
	if perr != nil || proxy == nil {
		return err
	}
	return &ProxyError{Proxy: proxy.Host, Err: op.Err}
}

// stallTimer ends a request. It runs between start and stop, or, for what is left of its time,
// between resume and pause.
type stallTimer struct {
	limit  time.Duration // without a byte
	slow   time.Duration // with fewer than minProgress
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	ended bool
	since time.Time     // it was resumed
	left  time.Duration // since then
	used  time.Duration // of slow, since minProgress bytes came last
	bytes int
}

func (w *stallTimer) start() { w.run(w.limit) }

func (w *stallTimer) run(left time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.since, w.left = time.Now(), left
	if w.timer == nil {
		w.timer = time.AfterFunc(left, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			stalled := &StalledError{After: w.limit}
			if w.left < w.limit { // all of slow is used
				stalled = &StalledError{After: w.slow, Bytes: w.bytes}
			}
			w.cancel(stalled)
		})
		return
	}
	w.timer.Reset(left)
}

func (w *stallTimer) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *stallTimer) resume() {
	w.mu.Lock()
	left := min(w.limit, w.slow-w.used)
	w.mu.Unlock()
	w.run(left)
}

// pause is told how many bytes have come.
func (w *stallTimer) pause(n int) {
	w.stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used += time.Since(w.since)
	if w.bytes += n; w.bytes >= minProgress {
		w.used, w.bytes = 0, 0
	}
}

// end stops it for good.
func (w *stallTimer) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.stop()
}

// timedBody tells when it is read.
type timedBody struct {
	io.ReadCloser
	before func()
	after  func(n int)
	closed func()          // nil for nothing
	cause  context.Context // whose cause says why a read failed, nil for none
}

func (b *timedBody) Read(p []byte) (int, error) {
	b.before()
	n, err := b.ReadCloser.Read(p)
	b.after(n)
	var stalled *StalledError
	if err != nil && b.cause != nil && errors.As(context.Cause(b.cause), &stalled) {
		err = stalled
	}
	return n, err
}

func (b *timedBody) Close() error {
	if b.closed != nil {
		defer b.closed()
	}
	return b.ReadCloser.Close()
}

// Dropped says that a connection was there, and was ended without an answer.
func Dropped(err error) bool {
	var proxy *ProxyError
	return !errors.As(err, &proxy) &&
		(errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
			errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}

// Proxied says whether requests to a host go through a proxy.
func Proxied(host string) bool {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: host}})
	return err == nil && proxy != nil
}
