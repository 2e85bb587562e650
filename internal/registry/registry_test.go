package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/ecsbuild/ecsbuild/internal/httptransport"
	"github.com/ecsbuild/ecsbuild/internal/localregistry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHosts(t *testing.T) {
	for host, want := range map[string][3]string{ // account, region, for account 999999999999
		"123456789012.dkr.ecr.us-east-1.amazonaws.com": {"123456789012", "us-east-1",
			"999999999999.dkr.ecr.us-east-1.amazonaws.com"},
		"123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com": {"123456789012", "us-gov-west-1",
			"999999999999.dkr.ecr-fips.us-gov-west-1.amazonaws.com"},
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn": {"123456789012", "cn-north-1",
			"999999999999.dkr.ecr.cn-north-1.amazonaws.com.cn"},
		"123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu": {"123456789012", "eusc-de-east-1",
			"999999999999.dkr.ecr.eusc-de-east-1.amazonaws.eu"},
		"123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov": {"123456789012", "us-iso-east-1",
			"999999999999.dkr.ecr.us-iso-east-1.c2s.ic.gov"},
		"123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov": {"123456789012", "us-isob-east-1",
			"999999999999.dkr.ecr.us-isob-east-1.sc2s.sgov.gov"},
		"123456789012.dkr-ecr.eu-west-1.on.aws": {"123456789012", "eu-west-1",
			"999999999999.dkr-ecr.eu-west-1.on.aws"},
		"123456789012.dkr-ecr-fips.us-east-2.on.aws": {"123456789012", "us-east-2",
			"999999999999.dkr-ecr-fips.us-east-2.on.aws"},
		"registry.example.com": {"", "", "registry.example.com"},
		"123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.io": {"", "",
			"123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.io"},
	} {
		h, err := ParseHost("https://" + host)
		if err != nil || h.Account() != want[0] || h.Region() != want[1] || h.ForAccount("999999999999").Name != want[2] {
			t.Errorf("%s: %v %q %q %q", host, err, h.Account(), h.Region(), h.ForAccount("999999999999").Name)
		}
	}
	for _, bad := range []string{"http://registry.example.com", "https://", "", "https://a/b", "https://user@host"} {
		if h, err := ParseHost(bad); err == nil {
			t.Errorf("%q is taken for %v", bad, h)
		}
	}
	if h, err := ParseHost("http://127.0.0.1:5000"); err != nil || !h.Plain {
		t.Errorf("loopback without TLS: %v %v", h, err)
	}
}

func FuzzParseHost(f *testing.F) {
	f.Add("https://123456789012.dkr.ecr.us-east-1.amazonaws.com")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := ParseHost(s); err == nil {
			if again, err := ParseHost("https://" + h.Name); err != nil && !h.Plain || !h.Plain && again.Name != h.Name {
				t.Errorf("%q gives %q, which gives %q, %v", s, h.Name, again.Name, err)
			}
		}
	})
}

// TestWindow lets ten go at once and never more than ten in a second.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rateLimit{limit: PutsPerSecond, length: time.Second}
		var mu sync.Mutex
		var at []time.Time
		var wg sync.WaitGroup
		start := time.Now()
		for range 100 {
			wg.Go(func() {
				if err := w.wait(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				at = append(at, time.Now())
				mu.Unlock()
			})
		}
		wg.Wait()
		if took := time.Since(start); took != 9*time.Second {
			t.Errorf("a hundred took %v, not 9 s", took)
		}
		for i := range at {
			if i >= PutsPerSecond && at[i].Sub(at[i-PutsPerSecond]) < time.Second {
				t.Errorf("eleven within %v", at[i].Sub(at[i-PutsPerSecond]))
			}
		}
	})
}

// server is a Local behind a handler that may interfere.
func server(t *testing.T, interfere func(w http.ResponseWriter, r *http.Request) bool) (*Client, *[]string) {
	t.Helper()
	local := localregistry.New(t.TempDir())
	var mu sync.Mutex
	var log []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		log = append(log, r.Method+" "+strings.SplitN(strings.TrimPrefix(r.URL.Path, "/v2/"), "sha256:", 2)[0])
		mu.Unlock()
		if interfere == nil || !interfere(w, r) {
			local.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	host, err := ParseHost(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(host, nil, "test", nil)
	t.Cleanup(c.Close)
	return c, &log
}

// putBytes sends a blob that lies in memory.
func putBytes(t *testing.T, r *Repository, data []byte) error {
	t.Helper()
	return r.Put(t.Context(), digest.FromBytes(data), int64(len(data)), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
}

func TestEachDigestOnce(t *testing.T) {
	c, log := server(t, nil)
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := putBytes(t, c.Repository("shop"), data); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(*log) != 4 { // HEAD, POST, PATCH, PUT
		t.Errorf("%d requests: %v", len(*log), *log)
	}
	if size, ok, err := c.Repository("shop").Has(t.Context(), digest.FromBytes(data)); !ok || err != nil || size != 1<<20 {
		t.Errorf("Has gives %d %v %v", size, ok, err)
	}
}

// TestAskerIsCanceled: who waits for the same answer gets it, and not the cancellation.
func TestAskerIsCanceled(t *testing.T) {
	asked, release := make(chan struct{}, 2), make(chan struct{})
	c, _ := server(t, func(_ http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return false
	})
	r, d := c.Repository("shop"), digest.FromString("x")
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("another image failed")
	var all, canceled sync.WaitGroup
	canceled.Go(func() {
		if _, _, err := r.Has(ctx, d); !errors.Is(err, reason) {
			t.Errorf("the one that is canceled: %v", err)
		}
	})
	<-asked
	all.Go(func() {
		if _, ok, err := r.Has(t.Context(), d); ok || err != nil {
			t.Errorf("the one that waits: %v %v", ok, err)
		}
	})
	time.Sleep(50 * time.Millisecond) // it waits for the first one's answer
	cancel(reason)
	canceled.Wait()
	close(release)
	all.Wait()
}

func TestRetriesWithAFreshBody(t *testing.T) {
	var patches atomic.Int32
	c, _ := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && patches.Add(1) < 3 {
			_, _ = io.CopyN(io.Discard, r.Body, 1000)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	data := bytes.Repeat([]byte("layer"), 1<<18)
	if err := putBytes(t, c.Repository("shop"), data); err != nil {
		t.Fatal(err)
	}
	if n := patches.Load(); n != 3 {
		t.Errorf("%d PATCH requests", n)
	}
}

// TestCommitIsTriedWithoutTheBlob: a registry that cannot complete an upload gets the blob
// once.
func TestCommitIsTriedWithoutTheBlob(t *testing.T) {
	old := firstPause
	firstPause = time.Millisecond
	defer func() { firstPause = old }()
	sent := map[string]int{}
	c, _ := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		sent[r.Method]++
		return r.Method == http.MethodPut && respond(w, http.StatusServiceUnavailable, "UNKNOWN")
	})
	err := putBytes(t, c.Repository("shop"), []byte("layer"))
	var e *Error
	if !errors.As(err, &e) || e.Status() != http.StatusServiceUnavailable || sent[http.MethodPatch] != 1 ||
		sent[http.MethodPut] != maxTries {
		t.Errorf("%v after %v", err, sent)
	}
}

func TestRefusalIsNotTriedAgain(t *testing.T) {
	c, log := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"User: arn:aws:sts::1:assumed-role/a/b is not authorized"}]}`)
		return true
	})
	err := c.Repository("shop").PutManifest(t.Context(), "v1", "application/json", []byte("{}"))
	if err == nil || len(*log) != 1 {
		t.Errorf("%v after %v", err, *log)
	}
}

func TestTokenIsRenewedOnce(t *testing.T) {
	var forced atomic.Int32
	c, _ := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		if _, pass, _ := r.BasicAuth(); pass == "fresh" {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}`)
		return true
	})
	token := atomic.Value{}
	token.Store("stale")
	var mu sync.Mutex
	c.auth = func(_ context.Context, expired string) (string, string, error) {
		mu.Lock()
		defer mu.Unlock()
		if expired == token.Load().(string) {
			forced.Add(1)
			token.Store("fresh")
		}
		return "AWS", token.Load().(string), nil
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, ok, err := c.Repository("shop").Has(t.Context(), digest.FromString(strconv.Itoa(i))); ok || err != nil {
				t.Errorf("%v %v", ok, err)
			}
		})
	}
	all.Wait()
	if forced.Load() != 1 {
		t.Errorf("renewed %d times", forced.Load())
	}
}

// TestRetryEndsWithTheCause: why a run was stopped, and not that it was.
func TestRetryEndsWithTheCause(t *testing.T) {
	reason := errors.New("another image failed")
	ctx, cancel := context.WithCancelCause(t.Context())
	tries := 0
	err := retry(ctx, func() error {
		tries++
		time.AfterFunc(time.Millisecond, func() { cancel(reason) })
		return &Error{Err: io.EOF}
	})
	if !errors.Is(err, reason) || tries != 1 {
		t.Errorf("%v after %d tries", err, tries)
	}
}

// TestSecondStallIsTheLast: each takes long, and a second one is no accident.
func TestSecondStallIsTheLast(t *testing.T) {
	tries := 0
	err := retry(t.Context(), func() error { tries++; return &Error{Err: &httptransport.StalledError{}} })
	var stalled *httptransport.StalledError
	var temporary interface{ Temporary() bool }
	if tries != 2 || !errors.As(err, &stalled) || !errors.As(err, &temporary) || temporary.Temporary() {
		t.Errorf("%d tries, %v", tries, err)
	}
}
