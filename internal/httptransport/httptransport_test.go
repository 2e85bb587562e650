package httptransport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// shortTimeouts has peers given up after a moment.
func shortTimeouts(t *testing.T) {
	oldStall, oldBlob := stallTimeout, blobStallTimeout
	stallTimeout, blobStallTimeout = 150*time.Millisecond, 150*time.Millisecond
	t.Cleanup(func() { stallTimeout, blobStallTimeout = oldStall, oldBlob })
}

// slow returns a piece every few milliseconds.
type slow struct {
	pieces int
	pause  time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if s.pieces == 0 {
		return 0, io.EOF
	}
	s.pieces--
	time.Sleep(s.pause)
	return copy(p, "x"), nil
}

func TestStall(t *testing.T) {
	shortTimeouts(t)
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
			<-release
		case "/half": // an answer that ends half way
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			<-release
		case "/trickle", "/slow":
			piece := map[string]int{"/trickle": 1, "/slow": minProgress}[r.URL.Path]
			for range 10 {
				_, _ = w.Write(make([]byte, piece))
				w.(http.Flusher).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		case "/deaf": // reads nothing of a body
			<-release
		default:
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}))
	defer srv.Close()
	defer close(release)
	client := &http.Client{Transport: New("127.0.0.1")}
	defer client.CloseIdleConnections()
	get := func(method, path string, body io.Reader) error {
		req, err := http.NewRequest(method, srv.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
		return err
	}
	var stalled *StalledError
	for _, test := range []struct {
		method, path string
		body         io.Reader
		stalls       bool
	}{
		{"GET", "/silent", nil, true},
		{"GET", "/half", nil, true},
		{"PATCH", "/deaf", bytes.NewReader(make([]byte, 64<<20)), true},
		{"GET", "/trickle", nil, true},
		{"GET", "/slow", nil, false},
		{"PATCH", "/", &slow{5, 200 * time.Millisecond}, false}, // it is us who are slow
		{"GET", "/", nil, false},
	} {
		if err := get(test.method, test.path, test.body); errors.As(err, &stalled) != test.stalls || err != nil &&
			!test.stalls {
			t.Errorf("%s %s: %v", test.method, test.path, err)
		}
	}
}

// TestQueueIsNoStall: a request that waits for a free connection waits for its peers'
// answers, and not for its own.
func TestQueueIsNoStall(t *testing.T) {
	shortTimeouts(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 10 {
			_, _ = w.Write(make([]byte, minProgress))
			w.(http.Flusher).Flush()
			time.Sleep(40 * time.Millisecond)
		}
	}))
	defer srv.Close()
	guard := New("127.0.0.1").(*stallGuard)
	guard.next.MaxConnsPerHost = 1
	client := &http.Client{Transport: guard}
	defer client.CloseIdleConnections()
	errs := make(chan error)
	for range 2 {
		go func() {
			resp, err := client.Get(srv.URL)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestProxyError tells a proxy's refusal from the registry's.
func TestProxyError(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	for address, status := range map[string]int{proxy.URL: http.StatusProxyAuthRequired, "http://me:pass@127.0.0.1:1": 0} {
		u, _ := http.NewRequest(http.MethodGet, address, nil)
		g := New("127.0.0.1").(*stallGuard)
		g.proxied = http.ProxyURL(u.URL)
		g.next.Proxy = g.proxied
		_, err := (&http.Client{Transport: g}).Get("https://registry.example/v2/")
		var e *ProxyError
		if !errors.As(err, &e) || e.Status != status || e.Proxy != u.URL.Host {
			t.Errorf("%s: %#v", address, err)
		}
		if Dropped(err) {
			t.Errorf("%s: taken for a dropped connection", address)
		}
	}
	if !Dropped(fmt.Errorf("a request: %w", io.EOF)) || Dropped(&net.DNSError{}) {
		t.Error("a dropped connection is not told from a name that does not resolve")
	}
}
