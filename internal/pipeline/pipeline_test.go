package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/baseimage"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/cachemount"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/localregistry"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeBuilder is an engine that makes an image of one config, named after its job.
type fakeBuilder struct {
	mu      sync.Mutex
	built   []string
	running int
	most    int
	fail    map[string]error // by the name of the image
	hold    chan struct{}    // a build waits for it, nil for not
	closed  bool

	exported    []string // caches
	exportFails error
	onExport    func()

	steps      []progress.BuildStep // of each build
	filled     []string             // cache mounts: image, how many, the first archive
	packed     []string             // image, listings
	mount      cachemount.Result    // of each mount that is packed
	mountsFail error
	id         string                      // of the engine
	archive    int                         // bytes more of what is packed
	onFill     func(context.Context) error // nil for nothing
	onPack     func(context.Context) error

	loaded     []string // images, for gates
	cannotLoad error
	loadFails  error
}

func (f *fakeBuilder) CanKeepMounts(context.Context) (string, error) { return f.id, nil }

func (f *fakeBuilder) FillMounts(ctx context.Context, j builder.Job, mounts []dockerfile.CacheMount, archives string) error {
	if f.onFill != nil {
		return f.onFill(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	data, err := os.ReadFile(filepath.Join(archives, cachemount.ArchiveName(0)))
	f.filled = append(f.filled, fmt.Sprintf("%s %d %s", j.Image.Name(), len(mounts), data))
	return errors.Join(err, f.mountsFail)
}

func (f *fakeBuilder) PackMounts(ctx context.Context, j builder.Job, mounts []dockerfile.CacheMount, listings []string,
	folder string) ([]cachemount.Result, error) {
	if f.onPack != nil {
		return nil, f.onPack(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.packed = append(f.packed, fmt.Sprintf("%s %q", j.Image.Name(), listings))
	out := make([]cachemount.Result, len(mounts))
	for n := range mounts {
		out[n] = f.mount
		if f.mount.Packed {
			if err := os.WriteFile(filepath.Join(folder, cachemount.ArchiveName(n)), append([]byte("archive"), make([]byte, f.archive)...), 0o600); err != nil {
				return nil, err
			}
		}
	}
	return out, f.mountsFail
}

func (f *fakeBuilder) ExportCache(_ context.Context, j builder.Job) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exported = append(f.exported, j.Image.Name()+" "+string(j.Cache))
	if f.onExport != nil {
		f.onExport()
	}
	return f.exportFails
}

func (f *fakeBuilder) Build(ctx context.Context, j builder.Job) (*image.Artifact, error) {
	f.mu.Lock()
	f.built, f.running = append(f.built, j.Image.Name()), f.running+1
	f.most = max(f.most, f.running)
	err := f.fail[j.Image.Name()]
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.running--; f.mu.Unlock() }()
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if err != nil || j.Keep {
		return nil, err
	}
	j.Steps.Observe(&progress.BuildStatus{Steps: f.steps})
	config, err := j.Inputs.AddLabel(ctx, fmt.Appendf(nil,
		`{"architecture":"amd64","os":"linux","author":%q,"rootfs":{"type":"layers","diff_ids":[]}}`, j.Image.Name()))
	if err != nil {
		return nil, err
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config),
			Size: int64(len(config))}, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &image.Artifact{Manifests: []image.Manifest{{MediaType: m.MediaType, Digest: digest.FromBytes(data),
		Data: data}}}, image.PutBytes(ctx, j.Store, m.Config.Digest, config)
}

func (f *fakeBuilder) Check(img plan.Image, warn func(string)) error {
	if img.Build.ShmSize > 0 {
		warn("shm_size is ignored")
	}
	if len(img.Build.Platforms) > 1 {
		return errors.New("no such platforms")
	}
	return nil
}
func (*fakeBuilder) HasSourcePolicy() bool                                  { return false }
func (f *fakeBuilder) Platform(context.Context) (string, error)             { return "linux/amd64", nil }
func (f *fakeBuilder) LocalDigests(context.Context, string) (none []string) { return none }
func (f *fakeBuilder) Close()                                               { f.closed = true }

// fakeECR is ECR's own API, with a list of what was asked.
type fakeECR struct {
	mu     sync.Mutex
	asked  []string
	states map[string]registry.TagState
	before func() // it tells the states; nil for nothing
	err    error
}

func (e *fakeECR) ask(what string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, what)
	return e.err
}
func (e *fakeECR) CreateRepository(_ context.Context, img plan.Image) error {
	return e.ask("create " + img.Repository)
}
func (e *fakeECR) CheckTagsFree(_ context.Context, img plan.Image) error {
	return e.ask("free " + img.Tags[0])
}
func (e *fakeECR) TagStates(context.Context, []plan.Image) map[string]registry.TagState {
	_ = e.ask("states")
	if e.before != nil {
		e.before()
	}
	return e.states
}

// listener is a Progress that keeps lines.
type listener struct {
	mu    sync.Mutex
	lines []string

	output map[digest.Digest]string // of gates
}

func (l *listener) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}
func (l *listener) Note(image string, s progress.Severity, text string) {
	l.add("%s|%d|%s", image, s, text)
}

// Status keeps what a gate has said, when it has ended.
func (l *listener) Status(image string, s *progress.BuildStatus) {
	if image != "" {
		return
	}
	l.mu.Lock()
	for _, o := range s.Output {
		if l.output == nil {
			l.output = map[digest.Digest]string{}
		}
		l.output[o.Step] += string(o.Data)
	}
	l.mu.Unlock()
	for _, v := range s.Steps {
		if v.Completed != nil {
			l.add("%s: %q %s", v.Name, l.output[v.ID], v.Error)
		}
	}
}
func (l *listener) Image(image string, state report.State, text string) {
	l.add("%s is %s: %s", image, state, text)
}
func (l *listener) Begin(string, report.Kind, string, int64) *progress.Span { return nil }

func (l *listener) has(t *testing.T, want string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.ContainsFunc(l.lines, func(s string) bool { return strings.Contains(s, want) }) {
		t.Errorf("nobody says %q in %q", want, l.lines)
	}
}

// fixture is a run of some images.
type fixture struct {
	plan    *plan.Plan
	engine  *fakeBuilder
	ecr     *fakeECR
	deps    Deps
	state   *hoststate.State
	said    *listener
	mu      sync.Mutex
	puts    []string // manifests, in order
	refuse  string   // the manifest that is refused
	missing bool     // the repositories do not exist
	masked  *redact.Set
}

func newFixture(t *testing.T, names ...string) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{engine: &fakeBuilder{fail: map[string]error{}}, ecr: &fakeECR{}, said: &listener{},
		state: hoststate.Open(t.TempDir()), masked: &redact.Set{}}
	f.plan = &plan.Plan{Directory: dir, Definitions: []plan.Definitions{{File: filepath.Join(t.TempDir(),
		"imagedefinitions.json"), Format: plan.ImageDefinitions}}}
	for _, n := range names {
		f.plan.Definitions[0].Entries = append(f.plan.Definitions[0].Entries, plan.Entry{Container: n, Image: n})
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY . /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		f.plan.Images = append(f.plan.Images, plan.Image{Containers: []string{n}, Repository: "shop/" + n,
			Tags: []string{"v1"}, Build: plan.Build{Context: dir, Dockerfile: filepath.Join(dir, "Dockerfile")}})
	}
	local := localregistry.New(t.TempDir())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		_, ref, put := strings.Cut(r.URL.Path, "/manifests/")
		put = put && r.Method == http.MethodPut
		refused, missing := put && ref == f.refuse, f.missing
		if put && !refused {
			f.puts = append(f.puts, strings.TrimPrefix(r.URL.Path, "/v2/shop/"))
		}
		f.mu.Unlock()
		switch {
		case refused:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"errors":[{"code":"TAG_INVALID","message":"the tag is immutable"}]}`)
		case missing && r.Method == http.MethodPost:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}`)
		default:
			local.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	host, err := registry.ParseHost(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	login := func(context.Context, string) (plan.Account, bool) { return plan.Account{}, false }
	f.deps = Deps{
		Engine:   func(context.Context) (Engine, error) { return f.engine, nil },
		Progress: f.said,
		Backends: func(context.Context) (*Backends, error) {
			c := registry.NewClient(host, nil, "test", nil)
			t.Cleanup(c.Close)
			return &Backends{Masked: f.masked, Registry: c, ECR: f.ecr, Login: login, State: f.state,
				Bases:   baseimage.New(login, "test", nil),
				Secrets: func(plan.Image) map[string]plan.Secret { return nil }}, nil
		},
	}
	return f
}

func (f *fixture) run(t *testing.T, o Options) (*Result, error) {
	t.Helper()
	return Run(t.Context(), f.plan, f.deps, o)
}

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

// TestDefinitionsTooLarge: it shows before anything is built.
func TestDefinitionsTooLarge(t *testing.T) {
	f := newFixture(t, "app")
	name := strings.Repeat("c", 250)
	for i := range 700 {
		c := fmt.Sprint(name, i)
		f.plan.Images[0].Containers = append(f.plan.Images[0].Containers, c)
		f.plan.Definitions[0].Entries = append(f.plan.Definitions[0].Entries, plan.Entry{Container: c, Image: "app"})
	}
	var e *fault.Error
	if _, err := f.run(t, Options{}); !errors.As(err, &e) || !strings.Contains(e.What, "too large") ||
		len(f.engine.built) != 0 {
		t.Errorf("%v", err)
	}
}

// TestDefinitionsCannotBeWritten: the images are in the registry, and the result says so.
func TestDefinitionsCannotBeWritten(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Definitions[0].File = filepath.Join(f.plan.Directory, "Dockerfile")
	r, err := f.run(t, Options{})
	var e *artifact.Error
	if !errors.As(err, &e) || !e.Late || r == nil || len(r.Images) != 1 {
		t.Errorf("%v, %v", r, err)
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
