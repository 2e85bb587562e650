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

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/baseimage"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/cachemount"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/localregistry"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// fakeBuilder is an engine that makes an image of one config, named after its job.
type fakeBuilder struct {
	mu      sync.Mutex
	built   []string
	running int
	most    int
	fail    map[string]error // by the name of the image
	hold    chan struct{}    // a build waits for it, nil for not
	closed  bool
	parts   map[string][]plan.Image // of images that are built in parts

	closedSolves int // how often
	cacheFails   int // builds
	losses       int // of builders that have images which are built on each other

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

	loadedOther error
}

func (f *fakeBuilder) CanKeepMounts(context.Context, builder.Job) (string, error) { return f.id, nil }

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
	if f.cacheFails > 0 {
		f.cacheFails--
		err = &builder.CacheError{Err: errors.New("a blob is gone")}
	}
	if f.losses > 0 {
		f.losses--
		err = &RestartError{errors.New("the builder is lost")}
	}
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
		`{"architecture":"amd64","os":"linux","author":%q,"rootfs":{"type":"layers","diff_ids":[]}}`, j.Image.PartName()))
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
func (f *fakeBuilder) CloseSolves()                                         { f.closedSolves++ }
func (f *fakeBuilder) Parts(img plan.Image) []plan.Image                    { return f.parts[img.Name()] }
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
func (e *fakeECR) TagCount(context.Context, plan.Image, digest.Digest) int { return 0 }
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
	plan     *plan.Plan
	engine   *fakeBuilder
	ecr      *fakeECR
	deps     Deps
	state    *hoststate.State
	said     *listener
	mu       sync.Mutex
	puts     []string // manifests, in order
	refuse   string   // the manifest that is refused
	missing  bool     // the repositories do not exist
	archived bool     // their blobs are there, and no manifest can be had
	masked   *redact.Set
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
		archived := f.archived && ref != "" && !put
		if put && !refused {
			f.puts = append(f.puts, strings.TrimPrefix(r.URL.Path, "/v2/shop/"))
		}
		f.mu.Unlock()
		switch {
		case archived:
			w.WriteHeader(http.StatusNotFound)
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
