// Package fleet has several buildkitds build the images of a run as if they were one engine.
//
// An image goes to the same member as long as that answers, so that it meets its own cache there.
// A platform goes to a member whose machine has it natively, and an image with platforms of several
// machines is built in parts. Where a member is lost, what it has not built goes to another one.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// An Engine is what a member of a fleet is. *builder.Engine is one.
type Engine interface {
	pipeline.Engine
	String() string
	// Platforms are all that it builds for, its machine's own first.
	Platforms(ctx context.Context) ([]ocispec.Platform, error)
	// Ping asks for an answer.
	Ping(ctx context.Context) error
}

// A Node is where a member may be.
type Node struct {
	Name    string // its address
	Jobs    int    // images whose steps it runs at once, 0 for any number
	Connect func(ctx context.Context) (Engine, error)
}

// Fleet is a pipeline.Engine.
type Fleet struct {
	members []*member
	units   map[string]*unit // by the part names of images
	parts   map[string][]plan.Image
	note    func(severity progress.Severity, text string)

	mu    sync.Mutex
	built map[string]*member // what has built a part, by its name
}

type member struct {
	Engine
	name      string
	index     int
	weight    float64
	platforms []ocispec.Platform

	mu   sync.Mutex
	lost error // nil as long as it answers
}

// patience is how long members may take when one has answered.
const patience = 10 * time.Second

// Open connects to those of some nodes that answer, for the images of a run. Its error is a
// *fault.Error, or that of all nodes.
func Open(ctx context.Context, nodes []Node, images []plan.Image,
	note func(severity progress.Severity, text string)) (*Fleet, error) {
	for _, img := range images {
		if len(img.Build.Platforms) == 0 {
			return nil, &fault.Error{What: img.Name() + ": with several builders, an image must name its platforms",
				Why: "builders of another architecture would build another image",
				Fix: "add platforms: [linux/amd64] to the image, or set DOCKER_DEFAULT_PLATFORM=linux/amd64"}
		}
	}
	f := &Fleet{units: map[string]*unit{}, parts: map[string][]plan.Image{}, built: map[string]*member{}, note: note}
	if err := f.connect(ctx, nodes); err != nil {
		return nil, err
	}
	units := makeUnits(images, f.members)
	assign(units, f.members)
	for _, u := range units {
		for _, img := range u.images {
			f.units[img.PartName()] = u
			if u.split {
				f.parts[img.Name()] = append(f.parts[img.Name()], img)
			}
		}
		if len(u.order) == 0 {
			f.Close()
			return nil, unable(u)
		}
	}
	return f, nil
}

// unable is the error of what no member builds.
func unable(u *unit) error {
	var names []string
	for _, img := range u.images {
		names = append(names, img.Name())
	}
	e := &fault.Error{What: fmt.Sprintf("no builder builds %s for %s", strings.Join(names, ", "),
		strings.Join(u.platforms, " and ")), Fix: "add a builder that does, or change platforms"}
	if len(names) > 1 {
		e.Why = "images that are built on each other have one builder"
	}
	return e
}

// connect connects to all nodes at once.
func (f *Fleet) connect(ctx context.Context, nodes []Node) error {
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := fmt.Errorf("it has not answered in %v", patience)
	members, errs := make([]*member, len(nodes)), make([]error, len(nodes))
	var answered sync.Once
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			members[i], errs[i] = n.open(waiting)
			switch {
			case errs[i] != nil && context.Cause(waiting) == late:
				errs[i] = fmt.Errorf("%s: %w", n.Name, late)
			case errs[i] == nil:
				answered.Do(func() { time.AfterFunc(patience, func() { cancel(late) }) })
			}
		})
	}
	wg.Wait()
	weighted := !slices.ContainsFunc(nodes, func(n Node) bool { return n.Jobs == 0 })
	for i, m := range members {
		if m == nil {
			continue
		}
		f.members = append(f.members, m)
		m.index, m.weight = i, 1
		if weighted {
			m.weight = float64(nodes[i].Jobs)
		}
	}
	if ctx.Err() != nil {
		f.Close()
		return context.Cause(ctx)
	}
	if len(f.members) == 0 {
		return errors.Join(errs...)
	}
	for _, err := range errs {
		if err != nil {
			f.note(progress.Warning, "a builder is left out, and others build its images: "+err.Error())
		}
	}
	return nil
}

func (n Node) open(ctx context.Context) (*member, error) {
	e, err := n.Connect(ctx)
	if err != nil {
		return nil, err
	}
	have, err := e.Platforms(ctx)
	if err != nil {
		e.Close()
		return nil, err
	}
	return &member{Engine: e, name: n.Name, platforms: have}, nil
}

// String names the members for messages.
func (f *Fleet) String() string {
	var names []string
	for _, m := range f.members {
		names = append(names, fmt.Sprintf("%s at %s", m.Engine, m.name))
	}
	if len(names) == 1 {
		return "one builder: " + names[0]
	}
	return fmt.Sprintf("%d builders: %s", len(names), strings.Join(names, ", "))
}

// FreeDisk is not known: the members' disks are elsewhere, most often.
func (f *Fleet) FreeDisk() (int64, bool) { return 0, false }

// Close closes all members.
func (f *Fleet) Close() {
	f.each(func(m *member) { m.Close() })
}

// CloseSolves ends what members keep open.
func (f *Fleet) CloseSolves() {
	f.each(func(m *member) { m.CloseSolves() })
}

func (f *Fleet) each(do func(*member)) {
	var wg sync.WaitGroup
	for _, m := range f.members {
		wg.Go(func() { do(m) })
	}
	wg.Wait()
}

// Parts are those that an image is built in, none where one member builds the whole.
func (f *Fleet) Parts(img plan.Image) []plan.Image { return f.parts[img.Name()] }

// Build has a member build an image. Where that is lost, the next one does, once each; what is
// linked to other images cannot go alone: a *pipeline.RestartError.
func (f *Fleet) Build(ctx context.Context, j builder.Job) (*image.Artifact, error) {
	name := j.Image.PartName()
	tried := map[*member]bool{}
	for m := f.next(j, tried); ; {
		f.mu.Lock()
		f.built[name] = m
		f.mu.Unlock()
		j := m.ownSteps(j)
		a, err := m.Build(ctx, j)
		if err == nil || ctx.Err() != nil || !m.isLost(ctx, err) {
			return a, err
		}
		endSteps(j)
		tried[m] = true
		next := f.next(j, tried)
		switch {
		case next == nil:
			return nil, err
		case j.IsLinked():
			return nil, &pipeline.RestartError{Err: err}
		}
		j.Note(progress.Warning, fmt.Sprintf("the builder %s is lost: building it on %s", m.name, next.name))
		m = next
	}
}

// ownSteps has a job tell of steps as the member's: images may share one, but builders do not.
func (m *member) ownSteps(j builder.Job) builder.Job {
	status := j.Status
	j.Status = func(s *progress.BuildStatus) {
		s.RenameSteps(func(id digest.Digest) digest.Digest { return digest.FromString(m.name + " " + id.String()) })
		status(s)
	}
	return j
}

// next is the first member for a job that answers, as far as is known, and was not tried; the
// first of all where none does. It is nil where all were tried.
func (f *Fleet) next(j builder.Job, tried map[*member]bool) *member {
	var first *member
	for _, m := range f.units[j.Image.PartName()].order {
		if tried[m] {
			continue
		}
		if !m.isKnownLost() {
			return m
		}
		if first == nil && len(tried) == 0 {
			first = m
		}
	}
	return first
}

// pingTimeout is what a member has to answer when a build on it has failed.
const pingTimeout = 5 * time.Second

// endSteps tells that the steps of a job have ended which a lost member has begun.
func endSteps(j builder.Job) {
	var ended []progress.BuildStep
	now := time.Now()
	for _, s := range j.Steps.All() {
		if s.Completed == nil {
			s.Completed, s.Error, s.Canceled = &now, "the builder is lost", true
			ended = append(ended, s)
		}
	}
	if len(ended) > 0 {
		j.Status(&progress.BuildStatus{Steps: ended})
	}
}

// shutdownGrace is between the end of a member's steps and its own, where its host ends both.
const shutdownGrace = time.Second

// isLost says whether a build has failed because the member has gone. Where a step fails, the
// member is there, unless both were killed.
func (m *member) isLost(ctx context.Context, err error) bool {
	var failed *builder.BuildError
	var unreachable *endpoint.UnreachableError
	if errors.As(err, &failed) {
		switch failed.ExitCode {
		case 0:
		case 128 + uint32(syscall.SIGKILL), 128 + uint32(syscall.SIGTERM):
			time.Sleep(shutdownGrace)
		default:
			return false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	silent := m.Ping(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if silent != nil {
		m.lost = err
	}
	return m.lost != nil || errors.As(err, &unreachable)
}

func (m *member) isKnownLost() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost != nil
}

// builderOf is the member that has built a job, or would. The job is the part of that member.
func (f *Fleet) builderOf(j builder.Job) (*member, builder.Job) {
	if parts := f.parts[j.Image.Name()]; len(parts) > 0 && f.units[j.Image.PartName()] == nil {
		j.Image = parts[0]
		for _, p := range parts {
			if slices.Contains(p.Part, "linux/"+runtime.GOARCH) { // as the user's engine is, most often
				j.Image = p
			}
		}
	}
	f.mu.Lock()
	m := f.built[j.Image.PartName()]
	f.mu.Unlock()
	if m == nil {
		m = f.next(j, nil)
	}
	return m, j
}
