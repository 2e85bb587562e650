package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	for _, pin := range []bool{false, true} {
		f := newFixture(t, "app", "nginx")
		r, err := f.run(t, Options{Pin: pin})
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(f.plan.Definitions[0].File)
		if err != nil || string(data) != string(r.Definitions[0]) {
			t.Errorf("%s, %v", data, err)
		}
		for _, img := range r.Images {
			if !strings.Contains(string(data), img.Ref(pin).String()) || strings.Contains(img.Ref(pin).String(), "@") != pin {
				t.Errorf("%s names no %s", data, img.Ref(pin))
			}
		}
		if !f.engine.closed || len(f.puts) != 4 { // two by digest, so that what is missing shows while no tag has moved
			t.Errorf("closed %v, %v", f.engine.closed, f.puts)
		}
		f.said.has(t, "app is done: built, layers uploaded to shop/app")
	}
}

// TestRunFails: one image's failure stops the others, no tag moves and no file is written.
func TestRunFails(t *testing.T) {
	f := newFixture(t, "app", "nginx")
	f.engine.hold = make(chan struct{})
	f.engine.fail["app"] = &builder.BuildError{Step: "[2/2] RUN make", Err: errors.New("exit code: 1\nmore")}
	go func() { // one build goes on, and the first one ends
		for {
			f.engine.mu.Lock()
			both := f.engine.running == 2
			f.engine.mu.Unlock()
			if both {
				break
			}
			time.Sleep(time.Millisecond)
		}
		f.engine.hold <- struct{}{}
	}()
	f.engine.fail["nginx"] = errors.New("another failure")
	_, err := f.run(t, Options{})
	var e *ImageError
	if !errors.As(err, &e) || len(f.puts) != 0 || !f.engine.closed {
		t.Errorf("%v, %v", err, f.puts)
	}
	if _, err := os.Stat(f.plan.Definitions[0].File); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	f.said.has(t, "is failed: ")
	f.said.has(t, "is stopped: ")
}

func TestJobs(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	f := newFixture(t, names...)
	if _, err := f.run(t, Options{Jobs: 2}); err != nil || f.engine.most > 2 || len(f.engine.built) != 5 {
		t.Errorf("%d at once, %v, %v", f.engine.most, f.engine.built, err)
	}
	f = newFixture(t, names...)
	if _, err := f.run(t, Options{Jobs: 1}); err != nil || !slices.Equal(f.engine.built, names) {
		t.Errorf("one after the other: %v, %v", f.engine.built, err)
	}
}

// TestBases: what others are built on begins before them, and its failure is its own.
func TestBases(t *testing.T) {
	f := newFixture(t, "web", "app", "proxy")
	f.plan.Images[0].Build.ImageContexts = map[string]string{"base": "app"}
	f.plan.Images[2].Build.ImageContexts = map[string]string{"web": "web"}
	r, err := f.run(t, Options{Jobs: 1})
	if err != nil || !slices.Equal(f.engine.built, []string{"app", "web", "proxy"}) || r.Images[0].Image.Name() != "web" {
		t.Errorf("%v, %v", f.engine.built, err)
	}
	said := &listener{}
	app := f.plan.Images[1]
	b := reported{&fakeBuilder{fail: map[string]error{"web": &builder.BaseError{Image: app, Err: errors.New("no")}}}, said}
	_, err = b.Build(t.Context(), builder.Job{Image: f.plan.Images[0]})
	var e *ImageError
	if !errors.As(err, &e) || e.Image.Name() != "app" || e.Error() != "app: no" {
		t.Errorf("%v", err)
	}
	said.has(t, "web is "+string(report.Stopped))
}

// TestBrokenCache: all images are built once more, without the caches, and once alone.
func TestBrokenCache(t *testing.T) {
	f := newFixture(t, "app", "web")
	f.engine.cacheFails = 1
	if _, err := f.run(t, Options{Jobs: 1}); err != nil || f.engine.closedSolves != 1 || len(f.engine.built) != 3 {
		t.Errorf("%v, %v, %d", err, f.engine.built, f.engine.closedSolves)
	}
	f.said.has(t, "the cache cannot be used, so the image is built without it: a blob is gone")
	f = newFixture(t, "app")
	f.engine.cacheFails = 2
	if _, err := f.run(t, Options{}); err == nil || len(f.puts) != 0 {
		t.Errorf("%v, %v", err, f.puts)
	}
}

// TestSignalBeforeTheTags: one that comes when every image is built, and no tag has moved
// yet, leaves all tags.
func TestSignalBeforeTheTags(t *testing.T) {
	f := newFixture(t, "app", "nginx")
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("stopped by interrupt")
	f.ecr.before = func() {
		for built := 0; built < 2; time.Sleep(time.Millisecond) {
			f.said.mu.Lock()
			built = strings.Count(strings.Join(f.said.lines, "\n"), " is done: ")
			f.said.mu.Unlock()
		}
		time.Sleep(50 * time.Millisecond) // the builds have returned, and the tags wait for this answer
		cancel(reason)
	}
	if _, err := Run(ctx, f.plan, f.deps, Options{}); !errors.Is(err, reason) || len(f.puts) != 0 {
		t.Errorf("%v after %v", err, f.puts)
	}
}

// TestTagErrorsComeInOrder: of two tags that are refused at the same time, the first
// image's is first.
func TestTagErrorsComeInOrder(t *testing.T) {
	for range 10 {
		f := newFixture(t, "app", "nginx", "worker")
		f.refuse = "v1"
		_, err := f.run(t, Options{})
		lines := strings.Split(fmt.Sprint(err), "\n")
		if len(lines) != 3 || !strings.HasPrefix(lines[0], "app: ") || !strings.HasPrefix(lines[1], "nginx: ") ||
			!strings.HasPrefix(lines[2], "worker: ") {
			t.Fatalf("%q", lines)
		}
	}
}

// TestErrorsComeInOrder: of two Dockerfiles that are wrong, the first image's is first.
func TestErrorsComeInOrder(t *testing.T) {
	f := newFixture(t, "app", "nginx")
	f.plan.Images[0].Build.Target = "prod"
	if err := os.WriteFile(f.plan.Images[1].Build.Dockerfile, []byte("COPPY\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := f.run(t, Options{})
	if err == nil || !strings.HasPrefix(err.Error(), "app: ") {
		t.Errorf("%v", err)
	}
}

// TestPrepare: what is wrong comes together, before anything is built.
func TestPrepare(t *testing.T) {
	f := newFixture(t, "app", "nginx")
	f.plan.Images[0].Build.Target = "prod"
	f.plan.Images[0].Build.ShmSize = 1
	f.plan.Images[1].Build.Platforms = []string{"a", "b"}
	f.missing = true
	f.deps.Checks = []func(context.Context) error{func(context.Context) error { return errors.New("no service") }}
	_, err := f.run(t, Options{})
	for _, want := range []string{`no stage "prod"`, "no such platforms", "no service", "app: 127.0.0.1",
		"nginx: 127.0.0.1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if len(f.engine.built) != 0 || !f.engine.closed {
		t.Errorf("%v, closed %v", f.engine.built, f.engine.closed)
	}
	f.said.has(t, "app|1|shm_size is ignored")
	f.deps.Engine = func(context.Context) (Engine, error) { return nil, errors.New("no engine") }
	f.deps.Backends = func(context.Context) (*Backends, error) { return nil, errors.New("no credentials") }
	if _, err := f.run(t, Options{}); err == nil || !strings.Contains(err.Error(), "no engine") ||
		!strings.Contains(err.Error(), "no credentials") {
		t.Errorf("%v", err)
	}
}

// TestRepositories: a missing one is made where the plan says so, and tags that must be
// free are looked for.
func TestRepositories(t *testing.T) {
	f := newFixture(t, "app")
	f.missing = true
	f.plan.Images[0].Create, f.plan.Images[0].OnImmutable = &plan.Creation{}, plan.FailTaken
	f.ecr.err = errors.New("refused")
	if _, err := f.run(t, Options{}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
	slices.Sort(f.ecr.asked)
	if got := strings.Join(f.ecr.asked, ", "); got != "create shop/app, free v1" {
		t.Error(got)
	}
	f.missing, f.ecr.err, f.ecr.asked = false, nil, nil
	if _, err := f.run(t, Options{}); err != nil || strings.Join(f.ecr.asked, ", ") != "free v1" {
		t.Errorf("%v, %v", f.ecr.asked, err)
	}
}

// TestBackground: its failure stops the builds, and is the reason.
func TestBackground(t *testing.T) {
	f := newFixture(t, "app")
	f.engine.hold = make(chan struct{})
	reason := errors.New("Docker Hub does not accept the account")
	f.deps.Background = func(_ context.Context, b *Backends, files dockerfile.Files) error {
		if b.Registry == nil || files["app"] == nil {
			t.Error("it gets no backends or files")
		}
		return reason
	}
	if _, err := f.run(t, Options{}); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
}

// TestMoveTags: a refusal ends it, says which tags had moved, and is remembered.
func TestMoveTags(t *testing.T) {
	f := newFixture(t, "app", "nginx")
	f.plan.Images[0].Tags = []string{"v1", "latest"}
	f.plan.Images[1].Tags = []string{"fixed"}
	f.refuse = "fixed"
	// may be refused: it goes first
	f.ecr.states = map[string]registry.TagState{"shop/nginx:fixed": {Digest: "sha256:old"}}
	_, err := f.run(t, Options{})
	var tags *TagsError
	if !errors.As(err, &tags) || len(tags.Moved) != 0 {
		t.Fatalf("%v", err)
	}
	var known bool
	if key := f.puts[0]; !strings.Contains(key, "sha256") { // first all manifests by digest
		t.Errorf("%v", f.puts)
	}
	r, _ := f.deps.Backends(t.Context())
	if !f.state.Get(hintImmutable, r.Registry.Host.Name+"/shop/nginx", &known) || !known {
		t.Error("the refusal is not remembered")
	}
	// Where the registry says beforehand that a tag will be refused, none is tried.
	f.refuse, f.puts = "", nil
	f.ecr.states["shop/nginx:fixed"] = registry.TagState{Digest: "sha256:old", Immutable: true}
	var taken *registry.TagTakenError
	if _, err := f.run(t, Options{}); !errors.As(err, &taken) || len(f.puts) != 0 {
		t.Errorf("%v, %v", err, f.puts)
	}
}

// TestReuse: an image that was made of the same is not built, on this host by what it
// remembers, on another one by the label of the image.
func TestReuse(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Images[0].Reuse = true
	builds := func(want int, why string) {
		t.Helper()
		r, err := f.run(t, Options{})
		if err != nil || r.Images[0].Artifact.Root().Digest == "" || len(f.engine.built) != want {
			t.Fatalf("%s: %d builds, %v", why, len(f.engine.built), err)
		}
	}
	builds(1, "the first run")
	builds(1, "nothing has changed")
	f.said.has(t, "app is reused: not built: what it is made of has not changed since")
	f.archived = true
	builds(2, "it is archived")
	f.archived, f.engine.built = false, f.engine.built[:1]
	f.state = hoststate.Open(t.TempDir())
	builds(1, "another host")
	f.plan.Images[0].MaxAge = 60
	builds(2, "nobody knows its age")
	builds(2, "it is young")
	if err := os.WriteFile(filepath.Join(f.plan.Directory, "new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	builds(3, "a new file")
	if err := os.WriteFile(filepath.Join(f.plan.Directory, "Dockerfile"),
		[]byte("FROM scratch\nADD https://example.com/x /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	builds(4, "it fetches")
	builds(5, "it fetches again")
	f.said.has(t, "app|0|reuse: building it anyway, since ADD https://example.com/x may be fetched by the build")
}

func TestDryRun(t *testing.T) {
	f := newFixture(t, "app", "nginx")
	f.plan.Definitions = append(f.plan.Definitions,
		plan.Definitions{File: filepath.Join(f.plan.Directory, "imageDetail.json"), Format: plan.ImageDetail,
			Entries: []plan.Entry{{Container: "app", Image: "app"}}})
	f.deps.Backends = withoutECR(f.deps.Backends)
	contents, err := DryRun(t.Context(), f.plan, f.deps, Options{Jobs: 1})
	if err != nil || len(contents) != 2 || !strings.Contains(string(contents[0]), "shop/nginx:v1") || len(f.puts) != 0 {
		t.Errorf("%q, %v, %v", contents, err, f.puts)
	}
	f.said.has(t, "app is done: built")
	f.said.has(t, "imageDetail.json names the image by its tag here")
	f.engine.fail["app"] = errors.New("no")
	if _, err := DryRun(t.Context(), f.plan, f.deps, Options{}); err == nil {
		t.Error("a failure is no failure")
	}
}

func withoutECR(backends func(context.Context) (*Backends, error)) func(context.Context) (*Backends, error) {
	return func(ctx context.Context) (*Backends, error) {
		b, err := backends(ctx)
		if err == nil {
			b.ECR = nil
		}
		return b, err
	}
}

func TestReported(t *testing.T) {
	said := &listener{}
	b := reported{&fakeBuilder{fail: map[string]error{"a": errors.New("first line\nsecond")}}, said}
	_, err := b.Build(t.Context(), builder.Job{Image: plan.Image{Containers: []string{"a"}}})
	var e *ImageError
	if !errors.As(err, &e) || e.Error() != "a: first line\nsecond" {
		t.Errorf("%v", err)
	}
	said.has(t, "a is "+string(report.Failed)+": first line")
}
