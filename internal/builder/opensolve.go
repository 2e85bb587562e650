package builder

import (
	"cmp"
	"context"
	"maps"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/endpoint"
)

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
			return nil, &endpoint.UnreachableError{Endpoint: e.Endpoint, Err: err}
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

// open begins a solve that stays open, and returns as soon as its graph is known. follow begins
// to read its status, until the engine is closed.
func (e *Engine) open(ctx context.Context, opt bkclient.SolveOpt,
	follow func() (status chan *bkclient.SolveStatus, wait func())) (*openSolve, error) {
	inputs := map[string]*pb.Definition{}
	for name, state := range opt.FrontendInputs {
		def, err := state.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		inputs[name] = def.ToPB()
	}
	opt.Exports, opt.CacheExports, opt.FrontendInputs = nil, nil, nil
	s := &openSolve{
		known:     make(chan struct{}),
		evaluated: make(chan struct{}),
		platform:  normalPlatform(opt.FrontendAttrs["platform"]),
	}
	client, err := e.clientOfOpenSolve(ctx)
	if err != nil {
		return nil, err
	}
	own, cancel := e.opened.context(ctx)
	follows := context.AfterFunc(ctx, cancel) // until its steps have ended
	status, wait := follow()
	e.opened.wg.Go(func() {
		var failed error // of its own, and not as Build words it
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
			if failed = err; err != nil {
				return nil, err
			}
			s.end(nil)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}, status)
		wait() // a failure is told with all that its step has printed
		s.end(cmp.Or(failed, err))
		cancel()
	})
	select {
	case <-s.known:
		return s, nil
	case <-s.evaluated:
		if s.err == nil { // both are closed
			return s, nil
		}
		return nil, s.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
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
