package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a relay over two pipes, as over the input and output of a container.
func start(t *testing.T, handler http.Handler) (s *Server, ended chan error) {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ended = make(chan error, 1)
	go func() {
		ended <- Main("127.0.0.1:0", inR, outW)
		_ = outW.Close()
	}()
	s, err := Serve(outR, inW, handler, func() { _ = inW.Close(); _ = outR.Close() })
	if err != nil {
		t.Fatal(err)
	}
	return s, ended
}

// TestRelay: requests and answers pass as they are, many at once, and large ones as they come.
func TestRelay(t *testing.T) {
	s, ended := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "u" || password != "p" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Length", "123456")
			return
		}
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		w.Header().Set("Location", r.URL.String())
		_, _ = fmt.Fprintf(w, "%d %x %v", n, h.Sum(nil), err)
	}))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	do := func(method, path string, body io.Reader) *http.Response {
		r, err := http.NewRequest(method, "http://"+s.Addr+path, body)
		if err != nil {
			t.Error(err)
			return nil
		}
		r.SetBasicAuth("u", "p")
		res, err := client.Do(r)
		if err != nil {
			t.Error(err)
			return nil
		}
		return res
	}
	data := bytes.Repeat([]byte("layer "), 2<<20)
	want := fmt.Sprintf("%d %x <nil>", len(data), sha256.Sum256(data))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			path := fmt.Sprintf("/v2/a/blobs/uploads/%d?digest=sha256:x%%3A", i)
			res := do(http.MethodPatch, path, bytes.NewReader(data))
			if res == nil {
				return
			}
			defer res.Body.Close()
			got, err := io.ReadAll(res.Body)
			if err != nil || string(got) != want || res.Header.Get("Location") != path {
				t.Errorf("%s %v %s", got, err, res.Header.Get("Location"))
			}
		})
	}
	wg.Wait()
	if res := do(http.MethodHead, "/v2/a/blobs/x", nil); res == nil || res.ContentLength != 123456 {
		t.Errorf("%+v", res)
	}
	s.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestEnds: when the relay ends, so does the server, and the other way round.
func TestEnds(t *testing.T) {
	blocked := make(chan struct{})
	s, ended := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(blocked)
		<-r.Context().Done()
	}))
	failed := make(chan error, 1)
	go func() {
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + s.Addr)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				err = errors.New(res.Status)
			}
		}
		failed <- err
	}()
	<-blocked
	s.Close()
	for what, c := range map[string]chan error{"the relay": ended, "a request": failed} {
		select {
		case err := <-c:
			if (err != nil) != (what == "a request") {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s does not end", what)
		}
	}
}

// TestEndsUnused: a relay that nobody has asked for anything ends with its connection, too.
func TestEndsUnused(t *testing.T) {
	s, ended := start(t, http.NotFoundHandler())
	s.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the relay does not end")
	}
}

// TestWindow: requests that wait do not keep others from going on.
func TestWindow(t *testing.T) {
	slots, waiting := make(chan struct{}, 2), make(chan struct{}, 64)
	s, ended := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		waiting <- struct{}{}
		slots <- struct{}{}
		defer func() { <-slots }()
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	data := bytes.Repeat([]byte("layer "), 1<<19)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	slots <- struct{}{}
	slots <- struct{}{}
	var wg sync.WaitGroup
	for range cap(waiting) {
		wg.Go(func() {
			res, err := client.Post("http://"+s.Addr, "", bytes.NewReader(data))
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
		})
	}
	for range cap(waiting) {
		<-waiting
	}
	time.Sleep(100 * time.Millisecond) // all send what they can
	<-slots
	<-slots
	wg.Wait()
	s.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestAddress: what is not the address of a loopback is not taken for one.
func TestAddress(t *testing.T) {
	for _, text := range []string{"", "127.0.0.1:1", "10.0.0.1:1\n", "exec format error\n"} {
		if _, err := Serve(strings.NewReader(text), io.Discard, nil, func() {}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
