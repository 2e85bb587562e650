package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// fakeEngine builds by writing down names.
type fakeEngine struct {
	Engine    // nil: what is not below is not called
	platforms []string

	mu       sync.Mutex
	built    []string // part names
	exported []string
	fails    error // of each build
	dead     bool  // it answers nothing
	closed   int
}

func (f *fakeEngine) String() string { return "fake" }
func (f *fakeEngine) Close()         { f.closed++ }
func (f *fakeEngine) CloseSolves()   {}
func (f *fakeEngine) Platforms(context.Context) (out []ocispec.Platform, _ error) {
	for _, p := range f.platforms {
		out = append(out, platforms.MustParse(p))
	}
	return out, nil
}

func (f *fakeEngine) Ping(context.Context) error {
	if f.dead {
		return errors.New("no answer")
	}
	return nil
}

func (f *fakeEngine) Build(_ context.Context, j builder.Job) (*image.Artifact, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.built = append(f.built, j.Image.PartName())
	if f.fails != nil {
		return nil, f.fails
	}
	return &image.Artifact{}, nil
}

func (f *fakeEngine) Check(img plan.Image, warn func(string)) error {
	warn("checked " + img.PartName())
	return nil
}

func (f *fakeEngine) ExportCache(_ context.Context, j builder.Job) error {
	f.exported = append(f.exported, j.Image.PartName())
	return nil
}

func nodes(fakes ...*fakeEngine) (out []Node) {
	for i, f := range fakes {
		if f.platforms == nil {
			f.platforms = []string{"linux/amd64", "linux/386"}
		}
		out = append(out, Node{Name: fmt.Sprintf("tcp://builder-%d:1234", i),
			Connect: func(context.Context) (Engine, error) { return f, nil }})
	}
	return out
}

func images(n int, platforms ...string) (out []plan.Image) {
	for i := range n {
		out = append(out, plan.Image{ID: fmt.Sprintf("image-%d", i), Repository: "shop",
			Build: plan.Build{Platforms: platforms}})
	}
	return out
}

func open(t *testing.T, nodes []Node, images []plan.Image) (f *Fleet, notes *[]string) {
	t.Helper()
	notes = &[]string{}
	f, err := Open(t.Context(), nodes, images, func(_ progress.Severity, text string) { *notes = append(*notes, text) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f, notes
}

// first are the images of each node.
func first(f *Fleet) map[string][]string {
	out := map[string][]string{}
	for name, u := range f.units {
		out[u.order[0].name] = append(out[u.order[0].name], name)
	}
	return out
}

// TestEvenAndStable: each member gets about its share, the same in each run, and one more member
// leaves most images where they are.
func TestEvenAndStable(t *testing.T) {
	three := nodes(&fakeEngine{}, &fakeEngine{}, &fakeEngine{})
	f, _ := open(t, three, images(60, "linux/amd64"))
	for name, got := range first(f) {
		if len(got) != 20 {
			t.Errorf("%s has %d", name, len(got))
		}
	}
	reversed := images(60, "linux/amd64")
	slices.Reverse(reversed)
	again, _ := open(t, []Node{three[2], three[0], three[1]}, reversed)
	four, _ := open(t, nodes(&fakeEngine{}, &fakeEngine{}, &fakeEngine{}, &fakeEngine{}), images(60, "linux/amd64"))
	moved := 0
	for name, u := range f.units {
		if got := again.units[name].order[0].name; got != u.order[0].name {
			t.Errorf("%s has moved from %s to %s", name, u.order[0].name, got)
		}
		if four.units[name].order[0].name != u.order[0].name {
			moved++
		}
	}
	if moved < 10 || moved > 24 {
		t.Errorf("%d images of 60 have moved to a fourth member", moved)
	}
}

// TestWeights: with limits, a member gets what it can build at once.
func TestWeights(t *testing.T) {
	two := nodes(&fakeEngine{}, &fakeEngine{})
	two[0].Jobs, two[1].Jobs = 6, 2
	f, _ := open(t, two, images(80, "linux/amd64"))
	if n := len(first(f)[two[0].Name]); n != 60 {
		t.Errorf("%d of 80", n)
	}
}

// TestPlatforms: each platform is built where it is native, and elsewhere if it must.
func TestPlatforms(t *testing.T) {
	amd := &fakeEngine{platforms: []string{"linux/amd64", "linux/arm64"}}
	arm := &fakeEngine{platforms: []string{"linux/arm64"}}
	both := []plan.Image{
		{ID: "amd", Build: plan.Build{Platforms: []string{"linux/amd64"}}},
		{ID: "arm", Build: plan.Build{Platforms: []string{"linux/arm64"}}},
		{ID: "two", Build: plan.Build{Platforms: []string{"linux/amd64", "linux/arm64"}}},
		{ID: "base", Build: plan.Build{Platforms: []string{"linux/amd64"}}},
		{ID: "on", Build: plan.Build{Platforms: []string{"linux/amd64", "linux/arm64"},
			ImageContexts: map[string]string{"b": "base"}}},
	}
	f, _ := open(t, nodes(amd, arm), both)
	for name, want := range map[string]*fakeEngine{"amd": amd, "arm": arm, "two linux/amd64": amd, "two linux/arm64": arm,
		"base": amd, "on": amd} {
		if u := f.units[name]; u == nil || u.order[0].Engine != Engine(want) {
			t.Errorf("%s is elsewhere", name)
		}
	}
	if parts := f.Parts(both[2]); len(parts) != 2 || f.Parts(both[4]) != nil || f.Parts(both[0]) != nil {
		t.Errorf("%v", parts)
	}
	var warned []string
	both[2].Build.CacheMounts, both[2].Build.CacheTo = true, []string{"type=local,dest=/cache"}
	if err := f.Check(both[2], func(text string) { warned = append(warned, text) }); err != nil ||
		len(warned) != 3 || !strings.HasPrefix(warned[0], "cache_mounts: not kept") ||
		!strings.HasPrefix(warned[1], "cache_to: each of the builders") || warned[2] != "checked two linux/amd64" {
		t.Errorf("%v %v", warned, err)
	}
	// Without the arm machine, amd builds both.
	alone, _ := open(t, nodes(amd, &fakeEngine{}), both)
	if u := alone.units["two"]; u == nil || u.order[0].Engine != Engine(amd) || len(u.order) != 1 {
		t.Error("two is not built where it is emulated")
	}
	_, err := Open(t.Context(), nodes(&fakeEngine{}, &fakeEngine{}), both, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "no builder builds arm for linux/arm64") {
		t.Error(err)
	}
	_, err = Open(t.Context(), nodes(amd, arm), images(1), nil)
	if err == nil || !strings.Contains(err.Error(), "must name its platforms") {
		t.Error(err)
	}
}

func job(img plan.Image, notes *[]string) builder.Job {
	return builder.Job{Image: img, Note: func(_ progress.Severity, text string) { *notes = append(*notes, text) }}
}

// TestLost: what a lost member has not built goes to another one, and nothing is sent to it again.
func TestLost(t *testing.T) {
	gone := &fakeEngine{fails: &endpoint.UnreachableError{Lost: true, Err: errors.New("EOF")}, dead: true}
	other := &fakeEngine{}
	all := images(6, "linux/amd64")
	f, notes := open(t, nodes(gone, other), all)
	for _, img := range all {
		if _, err := f.Build(t.Context(), job(img, notes)); err != nil {
			t.Fatal(err)
		}
	}
	if len(gone.built) != 1 || len(other.built) != 6 || len(*notes) != 1 ||
		(*notes)[0] != "the builder tcp://builder-0:1234 is lost: building it on tcp://builder-1:1234" {
		t.Errorf("%v %v %v", gone.built, other.built, *notes)
	}
	if err := f.ExportCache(t.Context(), job(all[0], notes)); err != nil || len(other.exported) != 1 {
		t.Error(err, other.exported)
	}
	other.dead, other.fails = true, gone.fails
	if _, err := f.Build(t.Context(), job(all[0], notes)); err == nil {
		t.Error("no builder is left, and it was built")
	}
}

// TestFailedStep: a step that fails does so everywhere.
func TestFailedStep(t *testing.T) {
	a := &fakeEngine{fails: &builder.BuildError{ExitCode: 1, Err: errors.New("exit code: 1")}, dead: true}
	b := &fakeEngine{fails: a.fails}
	f, notes := open(t, nodes(a, b), images(1, "linux/amd64"))
	if _, err := f.Build(t.Context(), job(images(1, "linux/amd64")[0], notes)); !errors.Is(err, a.fails) {
		t.Error(err)
	}
	if n := len(a.built) + len(b.built); n != 1 {
		t.Errorf("built %d times", n)
	}
}

// TestNotListed: a machine may be able to run what its buildkitd does not build.
func TestNotListed(t *testing.T) {
	only := &fakeEngine{platforms: []string{"linux/amd64"}}
	f, _ := open(t, nodes(only, &fakeEngine{}), images(1, "linux/386"))
	if u := f.units["image-0"]; len(u.order) != 1 || u.order[0].Engine == Engine(only) {
		t.Errorf("%+v", u)
	}
	if _, err := Open(t.Context(), nodes(only), images(1, "linux/386"), nil); err == nil {
		t.Error("it is built")
	}
	arm := &fakeEngine{platforms: []string{"linux/arm64"}}
	f, _ = open(t, nodes(only, arm), append(images(1, "linux/amd64", "linux/arm64"),
		plan.Image{ID: "image-0-linux-arm64", Build: plan.Build{Platforms: []string{"linux/amd64"}}}))
	if u := f.units["image-0-linux-arm64"]; len(f.units) != 3 || u.order[0].Engine != Engine(only) {
		t.Errorf("%+v", f.units)
	}
}

// TestKilledStep: a step that was killed may have died with its builder.
func TestKilledStep(t *testing.T) {
	for _, alive := range []bool{true, false} {
		fails := &builder.BuildError{ExitCode: 137, Err: errors.New("exit code: 137")}
		a, b := &fakeEngine{fails: fails, dead: !alive}, &fakeEngine{fails: fails, dead: !alive}
		f, notes := open(t, nodes(a, b), images(1, "linux/amd64"))
		_, err := f.Build(t.Context(), job(images(1, "linux/amd64")[0], notes))
		if want := map[bool]int{true: 1, false: 2}[alive]; err == nil || len(a.built)+len(b.built) != want {
			t.Errorf("alive %v: %v %v %v", alive, a.built, b.built, err)
		}
	}
}

// TestLinkedImages: images that are built on each other have one member, and begin again together.
func TestLinkedImages(t *testing.T) {
	linked := images(12, "linux/amd64")
	for i := 1; i < len(linked); i++ {
		linked[i].Build.ImageContexts = map[string]string{"base": linked[i-1].ID}
	}
	engines := []*fakeEngine{{}, {}, {}}
	f, notes := open(t, nodes(engines...), linked)
	if got := slices.Collect(maps.Values(first(f))); len(got) != 1 || len(got[0]) != 12 {
		t.Fatalf("%v", got)
	}
	jobs := []*builder.Job{{}, {}}
	for i := range jobs {
		*jobs[i] = job(linked[i], notes)
	}
	builder.LinkImages(jobs, false)
	for _, e := range engines {
		e.fails, e.dead = &builder.BaseError{Err: &endpoint.UnreachableError{Lost: true, Err: errors.New("EOF")}}, true
	}
	var restart *pipeline.RestartError
	if _, err := f.Build(t.Context(), *jobs[1]); !errors.As(err, &restart) {
		t.Error(err)
	}
}

// TestOpen: a run goes on without what does not answer, and ends where nothing does.
func TestOpen(t *testing.T) {
	e := &fakeEngine{}
	two := append(nodes(e), Node{Name: "tcp://gone:1", Connect: func(context.Context) (Engine, error) {
		return nil, errors.New("cannot reach tcp://gone:1: refused")
	}})
	f, notes := open(t, two, images(3, "linux/amd64"))
	if len(*notes) != 1 ||
		(*notes)[0] != "a builder is left out, and others build its images: cannot reach tcp://gone:1: refused" {
		t.Errorf("%q", *notes)
	}
	if got := f.String(); got != "one builder: fake at tcp://builder-0:1234" {
		t.Error(got)
	}
	if _, err := Open(t.Context(), two[1:], images(3, "linux/amd64"), nil); err == nil {
		t.Error("no builder answers, and there is a fleet")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ended, nodes(e), images(1, "linux/amd64"), nil); !errors.Is(err, context.Canceled) || e.closed != 1 {
		t.Error(err, e.closed)
	}
}

// TestOwnSteps: images share a step on one member, and not with another member, which runs it, too.
func TestOwnSteps(t *testing.T) {
	told := func(name string) (ids []digest.Digest) {
		j := builder.Job{Status: func(s *progress.BuildStatus) {
			ids = append(ids, s.Steps[0].ID, s.Output[0].Step, s.Transfers[0].Step, s.Warnings[0].Step)
		}}
		j = (&member{name: name}).ownSteps(j)
		id := digest.FromString("RUN make")
		j.Status(&progress.BuildStatus{Steps: []progress.BuildStep{{ID: id}}, Output: []progress.StepOutput{{Step: id}},
			Transfers: []progress.Transfer{{Step: id}}, Warnings: []progress.BuildWarning{{Step: id}}})
		if len(slices.Compact(slices.Clone(ids))) != 1 {
			t.Errorf("one step is told of as %v", ids)
		}
		return ids
	}
	a, again, b := told("tcp://a:1"), told("tcp://a:1"), told("tcp://b:1")
	if a[0] != again[0] || a[0] == b[0] {
		t.Errorf("%v %v %v", a[0], again[0], b[0])
	}
}
