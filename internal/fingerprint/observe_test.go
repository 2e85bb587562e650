package fingerprint

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// localImages is an engine that has images of some names.
type localImages map[string][]string

func (localImages) HasSourcePolicy() bool { return false }

func (localImages) Platform(context.Context) (string, error) { return "linux/amd64", nil }

func (l localImages) LocalDigests(_ context.Context, ref string) []string { return l[ref] }

// TestObserve compares what a build takes with what was hashed.
func TestObserve(t *testing.T) {
	one, two := "@sha256:"+strings.Repeat("1", 64), "@sha256:"+strings.Repeat("2", 64)
	for _, tt := range []struct {
		image   string
		fetches bool
		want    bool
	}{
		{"", false, true},
		{"", true, false},
		{"docker.io/library/a:1" + one, false, true},
		{"docker.io/library/a:1" + two, false, false},
		{"docker.io/library/a:1", false, false},       // whatever the engine has of that name
		{"docker.io/library/f" + one, false, true},    // latest, as 20.10 has it
		{"docker.io/library/f" + two, false, false},   // and another one
		{"docker.io/library/e:1", false, true},        // the engine has the one that was hashed
		{"docker.io/library/b" + two, false, true},    // the Dockerfile says so
		{"docker.io/library/c:1" + one, false, false}, // nobody hashed it: an ONBUILD
	} {
		in := &Inputs{
			bases: map[string]string{"docker.io/library/a:1": one[1:], "docker.io/library/e:1": one[1:],
				"docker.io/library/f:latest": one[1:]},
			pinned:  []string{"docker.io/library/b" + two},
			builder: localImages{"docker.io/library/e:1": {two[1:], one[1:]}},
			rehash:  func(context.Context) bool { return true },
		}
		in.Observe(t.Context(), tt.image, tt.fetches)
		in.Wait()
		if got := in.Verify(t.Context()); got != tt.want {
			t.Errorf("%q, fetches %v: verified is %v", tt.image, tt.fetches, got)
		}
	}
	var none *Inputs
	none.Observe(t.Context(), "a", true)
	none.VerifyInBackground(t.Context())
	none.Wait()
}

// slowEngine takes its time.
type slowEngine struct{ localImages }

func (s slowEngine) LocalDigests(ctx context.Context, ref string) []string {
	time.Sleep(time.Minute)
	return s.localImages.LocalDigests(ctx, ref)
}

// TestLabelWaitsForTheEngine: no image is labelled before the engine has said which base
// image it took.
func TestLabelWaitsForTheEngine(t *testing.T) {
	for _, taken := range []string{"sha256:1", "sha256:2"} {
		synctest.Test(t, func(t *testing.T) {
			const base = "docker.io/library/a:1"
			in := &Inputs{Hash: "h", bases: map[string]string{base: "sha256:1"},
				builder: slowEngine{localImages{base: {taken}}}, rehash: func(context.Context) bool { return true }}
			in.Observe(t.Context(), base, false)
			in.VerifyInBackground(t.Context())
			config, err := in.AddLabel(t.Context(), []byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`))
			_, labelled := ReadLabel(config)
			if err != nil || labelled != (taken == "sha256:1") {
				t.Errorf("the engine took %s: labelled %v, %v", taken, labelled, err)
			}
			in.Wait()
		})
	}
}

// TestVerifyInBackground: the early answer is the one that counts, and is there
// after Wait.
func TestVerifyInBackground(t *testing.T) {
	calls := 0
	in := &Inputs{rehash: func(context.Context) bool { calls++; return calls == 1 }}
	in.VerifyInBackground(t.Context())
	in.Wait()
	if !in.Verify(t.Context()) || calls != 1 {
		t.Errorf("verified after %d calls", calls)
	}
}

// TestMemoForgetsACanceledCaller: the next one asks again.
func TestMemoForgetsACanceledCaller(t *testing.T) {
	var m memo[int]
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := m.get(ctx, "k", func() (int, error) { cancel(); return 0, ctx.Err() }); err == nil {
		t.Error("the canceled call gives no error")
	}
	for range 2 {
		calls := 0
		n, err := m.get(t.Context(), "k", func() (int, error) { calls++; return 7, nil })
		if n != 7 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
}
