package main

import (
	"context"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/dockerconfig"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/fleet"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// engines opens what a plan builds on, under docker's source policy and with its proxies.
type engines struct {
	app    *app
	plan   *plan.Plan
	docker *dockerconfig.File
	note   progress.NoteFunc
}

// engine is what they come to.
type engine interface {
	pipeline.Engine
	String() string
	FreeDisk() (bytes int64, ok bool)
}

// open opens the engine of the plan, or all of its builders as one.
func (s engines) open(ctx context.Context) (engine, error) {
	found, err := s.find()
	if err != nil {
		return nil, err
	}
	var e engine
	if len(found) == 1 {
		e, err = s.connect(ctx, found[0])
	} else {
		e, err = s.openAll(ctx, found)
	}
	if err != nil {
		return nil, err // and no nil pointer in an interface
	}
	return e, nil
}

func (s engines) openAll(ctx context.Context, found []node) (*fleet.Fleet, error) {
	var nodes []fleet.Node
	for _, n := range found {
		nodes = append(nodes, fleet.Node{Name: n.endpoint.String(), Jobs: n.jobs,
			Connect: func(ctx context.Context) (fleet.Engine, error) {
				e, err := s.connect(ctx, n)
				if err == nil {
					e.Watch() // also one on this machine, since another one can go on
				}
				return e, err
			}})
	}
	return fleet.Open(ctx, nodes, s.plan.Images, s.note)
}

// A node is where an engine is.
type node struct {
	endpoint endpoint.Endpoint
	jobs     int // images whose steps it runs at once, 0 for any number
}

// find finds the engines that the plan names: of buildkitds alone there may be several.
func (s engines) find() (out []node, err error) {
	if s.plan.Builder != plan.BuilderBuildKit {
		ep, err := endpoint.Find(s.app.getenv)
		return []node{{endpoint: ep}}, err
	}
	for _, n := range s.plan.Nodes {
		endpoints, err := endpoint.Nodes(n.Address, s.app.getenv)
		if err != nil {
			return nil, err
		}
		for _, ep := range endpoints {
			out = append(out, node{ep, n.Jobs})
		}
	}
	return out, nil
}

func (s engines) connect(ctx context.Context, n node) (*builder.Engine, error) {
	ep := n.endpoint
	user := ep
	if ep.BuildKit != "" && len(s.plan.Gates) > 0 {
		var err error
		if user, err = endpoint.FindDocker(s.app.getenv); err != nil {
			return nil, err
		}
	}
	e, err := builder.Open(ctx, builder.Choice{Endpoint: ep, Docker: user, Builder: s.plan.Builder, Images: s.plan.Images,
		Environ: s.app.environ, Why: func(text string) { s.note(progress.Info, text) }})
	if err != nil {
		return nil, err
	}
	if err := e.UseSourcePolicy(s.app.getenv("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY")); err != nil {
		e.Close()
		return nil, err
	}
	if n.jobs > 0 {
		e.LimitJobs(n.jobs)
	}
	e.UseProxies(s.docker.Proxies(ep.Docker), s.app.secrets)
	return e, nil
}
