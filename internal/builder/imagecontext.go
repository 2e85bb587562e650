package builder

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// An image that others of the run are built on is solved once, by a solve that exports
// nothing and stays open until the engine is closed. The image itself and the images that are
// built on it take the graph of that solve, and so the very results of its steps. The same is
// done for those, whose steps BuildKit may join with steps of the open solve, and for an image
// that is built without the cache: a second solve of them would run steps once more, or find
// the results of another build.

// LinkImages has the jobs know the images of the run that they are built on, and which of
// them are solved once. again says that images are asked for once more when they are built, as
// for gates.
func LinkImages(jobs []Job, again bool) {
	byName := map[string]*Job{}
	for i := range jobs {
		byName[jobs[i].Image.Name()] = &jobs[i]
		b := jobs[i].Image.Build
		uncached := b.NoCache || jobs[i].Image.MaxAge > 0
		if len(b.ImageContexts) > 0 || uncached && (again || b.Cache != "") {
			jobs[i].result = newImageResult(&jobs[i])
		}
	}
	for i := range jobs {
		for name, image := range jobs[i].Image.Build.ImageContexts {
			base := byName[image]
			if base.result == nil {
				base.result = newImageResult(base)
			}
			if jobs[i].bases == nil {
				jobs[i].bases = map[string]*imageResult{}
			}
			jobs[i].bases[name] = base.result
		}
	}
}

// A BaseError is the failure of an image that the one of a job is built on.
type BaseError struct {
	Image plan.Image
	Err   error
}

func (e *BaseError) Error() string { return e.Err.Error() }
func (e *BaseError) Unwrap() error { return e.Err }

// imageResult is what comes of an image that is solved once; that may be tried several times.
type imageResult struct {
	job *Job

	mu      sync.Mutex
	open    *openSolve    // of the last try, nil before the first
	err     error         // of a build that has failed for good
	changed chan struct{} // closed when one of the two above has changed
}

func newImageResult(j *Job) *imageResult {
	return &imageResult{job: j, changed: make(chan struct{})}
}

// current is the solve that others take the image from, nil for none. A nil imageResult has none.
func (r *imageResult) current() *openSolve {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil || r.open.failed() != nil {
		return nil
	}
	return r.open
}

func (r *imageResult) set(s *openSolve, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s != nil {
		r.open = s
	}
	r.err = err
	close(r.changed)
	r.changed = make(chan struct{})
}

// private says whether the build of a job, or of what it is built on, has secrets or keys of
// SSH: BuildKit asks the sessions of all builds that need a step for them, whosever it is.
func (j *Job) private() bool {
	if len(j.Image.Build.Secrets)+len(j.Image.Build.SSH) > 0 {
		return true
	}
	for _, base := range j.bases {
		if base.job.private() {
			return true
		}
	}
	return false
}

// usesHostNetwork says whether steps of a job, or of what it is built on, have the host's network.
func (j *Job) usesHostNetwork() bool {
	if j.Image.Build.Network == "host" {
		return true
	}
	for _, base := range j.bases {
		if base.job.usesHostNetwork() {
			return true
		}
	}
	return false
}

// wait waits for a solve that has not failed, until its steps have ended where the job must
// not have a part in them. Its error is a *BaseError, or the context's.
func (r *imageResult) wait(ctx context.Context, evaluated bool) (*openSolve, error) {
	for {
		r.mu.Lock()
		err, changed := r.err, r.changed
		r.mu.Unlock()
		if err != nil {
			return nil, &BaseError{r.job.Image, err}
		}
		if s := r.current(); s != nil {
			if !evaluated || s.wait(ctx) == nil {
				return s, nil
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			continue // it has failed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// openSolve is a solve of a Dockerfile that stays open.
type openSolve struct {
	known       chan struct{} // closed when the three below are there
	metadata    map[string][]byte
	definitions map[string]*pb.Definition // by platform, "" for the only one; nil for an empty image
	steps       map[digest.Digest]bool    // those of the definitions
	platform    string                    // of the only one, "" for the engine's

	evaluated chan struct{} // closed when all steps have ended, or one has failed
	err       error
	once      sync.Once
}

// failed is the failure of a step, nil for none so far.
func (s *openSolve) failed() error {
	select {
	case <-s.evaluated:
		return s.err
	default:
		return nil
	}
}

// wait waits until all steps have ended.
func (s *openSolve) wait(ctx context.Context) error {
	select {
	case <-s.evaluated:
		return s.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *openSolve) end(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.evaluated)
	})
}

// take notes what a solve has come to, before its steps run.
func (s *openSolve) take(ctx context.Context, res *gateway.Result) error {
	refs := res.Refs
	if len(refs) == 0 {
		refs = map[string]gateway.Reference{"": res.Ref}
	}
	s.metadata, s.definitions, s.steps = res.Metadata, map[string]*pb.Definition{}, map[digest.Digest]bool{}
	for platform, ref := range refs {
		s.definitions[platform] = nil
		if ref == nil {
			continue
		}
		state, err := ref.ToState()
		if err != nil {
			return err
		}
		def, err := state.Marshal(ctx)
		if err != nil {
			return err
		}
		s.definitions[platform] = def.ToPB()
		for _, op := range def.Def {
			s.steps[digest.FromBytes(op)] = true
		}
	}
	close(s.known)
	return nil
}

// openSolves are those of an engine.
type openSolves struct {
	mu      sync.Mutex
	cancels []context.CancelFunc
	clients []*bkclient.Client // of their own; the last one may have room
	solves  int
	wg      sync.WaitGroup
}

func (o *openSolves) context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cancels = append(o.cancels, cancel)
	return ctx, cancel
}

// maxOpenSolves is how many one connection carries, of two streams each; the engine lets a
// connection have 250.
const maxOpenSolves = 50

// clientOfOpenSolve is a connection that has room for one more.
func (e *Engine) clientOfOpenSolve(ctx context.Context) (*bkclient.Client, error) {
	o := &e.opened
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.solves%maxOpenSolves == 0 {
		c, err := e.buildkit(ctx)
		if err != nil {
			return nil, &UnreachableError{Endpoint: e.Endpoint, Err: err}
		}
		o.clients = append(o.clients, c)
	}
	o.solves++
	return o.clients[len(o.clients)-1], nil
}

// CloseSolves ends the solves that stay open, while nothing is built.
func (e *Engine) CloseSolves() {
	e.opened.mu.Lock()
	for _, cancel := range e.opened.cancels {
		cancel()
	}
	e.opened.cancels = nil
	clients := e.opened.clients
	e.opened.clients, e.opened.solves = nil, 0
	e.opened.mu.Unlock()
	e.opened.wg.Wait()
	for _, c := range clients {
		_ = c.Close()
	}
}

// open begins a solve that stays open, and returns as soon as its graph is known.
func (e *Engine) open(ctx context.Context, opt bkclient.SolveOpt, status chan *bkclient.SolveStatus) (*openSolve, error) {
	inputs := map[string]*pb.Definition{}
	for name, state := range opt.FrontendInputs {
		def, err := state.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		inputs[name] = def.ToPB()
	}
	opt.Exports, opt.CacheExports, opt.FrontendInputs = nil, nil, nil
	s := &openSolve{known: make(chan struct{}), evaluated: make(chan struct{}), platform: normalPlatform(opt.FrontendAttrs["platform"])}
	client, err := e.clientOfOpenSolve(ctx)
	if err != nil {
		return nil, err
	}
	own, cancel := e.opened.context(ctx)
	follows := context.AfterFunc(ctx, cancel) // until its steps have ended
	e.opened.wg.Go(func() {
		_, err := client.Build(own, opt, "", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
			res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: dockerfileFrontend, FrontendOpt: c.BuildOpts().Opts,
				FrontendInputs: inputs})
			if err == nil {
				err = s.take(ctx, res)
			}
			if err == nil {
				err = evaluate(ctx, res)
			}
			follows()
			if s.end(err); err != nil {
				return nil, err
			}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}, status)
		s.end(err)
		cancel()
	})
	select {
	case <-s.known:
		return s, nil
	case <-s.evaluated:
		return nil, s.err
	}
}

// normalPlatform is the one platform of a build as BuildKit spells it, "" for several or none.
func normalPlatform(list string) string {
	p, err := platforms.Parse(list)
	if list == "" || strings.Contains(list, ",") || err != nil {
		return ""
	}
	return platforms.FormatAll(platforms.Normalize(p))
}

// evaluate runs the steps of all platforms.
func evaluate(ctx context.Context, res *gateway.Result) error {
	g, ctx := errgroup.WithContext(ctx)
	_ = res.EachRef(func(ref gateway.Reference) error {
		g.Go(func() error { return ref.Evaluate(ctx) })
		return nil
	})
	return g.Wait()
}

// export exports what an open solve has come to.
func (e *Engine) export(ctx context.Context, s *openSolve, opt bkclient.SolveOpt,
	status chan *bkclient.SolveStatus) (*bkclient.SolveResponse, error) {
	opt.FrontendInputs, opt.CacheImports = nil, nil
	return e.bk.Build(ctx, opt, "", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		out := gateway.NewResult()
		out.Metadata = maps.Clone(s.metadata)
		for platform, def := range s.definitions {
			if def == nil {
				continue
			}
			res, err := c.Solve(ctx, gateway.SolveRequest{Definition: def})
			if err != nil {
				return nil, err
			}
			if platform == "" {
				out.SetRef(res.Ref)
			} else {
				out.AddRef(platform, res.Ref)
			}
		}
		return out, nil
	}, status)
}

// baseSolves are the solves of the images that a job is built on, by the names of the contexts.
type baseSolves map[string]*openSolve

// waitForBases waits until the images that a job is built on are known. Its error is a
// *BaseError, or the context's.
func (j *Job) waitForBases(ctx context.Context) (baseSolves, error) {
	solves := baseSolves{}
	for name, base := range j.bases {
		s, err := base.wait(ctx, j.private())
		if err != nil {
			return nil, err
		}
		solves[name] = s
	}
	return solves, nil
}

// steps are those of all bases: their own jobs tell of them.
func (b baseSolves) steps() map[digest.Digest]bool {
	steps := map[digest.Digest]bool{}
	for _, s := range b {
		maps.Copy(steps, s.steps)
	}
	return steps
}

// missingPlatform is the name of an input that no solve has.
const missingPlatform = "another-platform"

// addTo gives a solve the bases. Their inputs have names of their own: one called context
// would be taken for the files that are sent. BuildKit looks for a platform first, and then
// for the image without one, of which there is none where the base has platforms: or else it
// would look for the name in a registry.
// https://github.com/moby/buildkit/blob/v0.34.2/frontend/dockerui/namedcontext.go
func (b baseSolves) addTo(opt *bkclient.SolveOpt) error {
	for context, s := range b {
		if only := s.platform; only != "" || len(s.definitions) > 1 {
			opt.FrontendAttrs["context:"+context] = "input:" + missingPlatform
		}
		for platform, def := range s.definitions {
			name, key := context, exptypes.ExporterImageConfigKey
			switch {
			case platform != "":
				name, key = name+"::"+platform, key+"/"+platform
			case s.platform != "":
				name += "::" + s.platform
			}
			// An image without layers has no graph, and an input must have one.
			state := llb.Scratch().File(llb.Mkdir("/", 0o755, llb.WithParents(true)), llb.WithCustomName("[internal] an image without layers"))
			if def != nil {
				op, err := llb.NewDefinitionOp(def)
				if err != nil {
					return err
				}
				state = llb.NewState(op)
			}
			metadata, err := json.Marshal(map[string][]byte{exptypes.ExporterImageConfigKey: s.metadata[key]})
			if err != nil {
				return err
			}
			if opt.FrontendInputs == nil {
				opt.FrontendInputs = map[string]llb.State{}
			}
			input := "image-" + name
			opt.FrontendInputs[input] = state
			opt.FrontendAttrs["context:"+name], opt.FrontendAttrs["input-metadata:"+input] = "input:"+input, string(metadata)
		}
	}
	return nil
}

// haveFailed says whether the error of a build is that of a base, which may be tried again.
func (b baseSolves) haveFailed(ctx context.Context, err error) bool {
	var v *errdefs.VertexError
	for _, s := range b {
		if errors.As(err, &v) && s.steps[digest.Digest(v.Digest)] {
			_ = s.wait(ctx)
		}
		if s.failed() != nil {
			return true
		}
	}
	return false
}

// withoutSteps leaves out of a status what belongs to steps that others tell of.
func withoutSteps(s *bkclient.SolveStatus, others map[digest.Digest]bool) *bkclient.SolveStatus {
	if len(others) == 0 {
		return s
	}
	return onlySteps(s, func(d digest.Digest) bool { return !others[d] })
}

// onlySteps keeps of a status what belongs to some steps.
func onlySteps(s *bkclient.SolveStatus, keep func(digest.Digest) bool) *bkclient.SolveStatus {
	out := &bkclient.SolveStatus{}
	for _, v := range s.Vertexes {
		if keep(v.Digest) {
			out.Vertexes = append(out.Vertexes, v)
		}
	}
	for _, v := range s.Statuses {
		if keep(v.Vertex) {
			out.Statuses = append(out.Statuses, v)
		}
	}
	for _, v := range s.Logs {
		if keep(v.Vertex) {
			out.Logs = append(out.Logs, v)
		}
	}
	for _, v := range s.Warnings {
		if keep(v.Vertex) {
			out.Warnings = append(out.Warnings, v)
		}
	}
	return out
}

// startedSteps are the steps of a run's builds, with the times at which they began. A solve
// is told of steps of another one, too, where BuildKit takes two for one.
type startedSteps struct {
	mu sync.Mutex
	at map[digest.Digest]map[time.Time]bool
}

// note remembers what a status tells of.
func (h *startedSteps) note(s *bkclient.SolveStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range s.Vertexes {
		if v.Started == nil {
			continue
		}
		if h.at == nil {
			h.at = map[digest.Digest]map[time.Time]bool{}
		}
		if h.at[v.Digest] == nil {
			h.at[v.Digest] = map[time.Time]bool{}
		}
		h.at[v.Digest][*v.Started] = true
	}
}

// later keeps of a status what belongs to steps that have begun since.
func (h *startedSteps) later(s *bkclient.SolveStatus, begun map[digest.Digest]bool) *bkclient.SolveStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range s.Vertexes {
		if v.Started != nil && !h.at[v.Digest][*v.Started] {
			begun[v.Digest] = true
		}
	}
	return onlySteps(s, func(d digest.Digest) bool { return begun[d] })
}
