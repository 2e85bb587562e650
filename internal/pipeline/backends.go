package pipeline

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/baseimage"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// Backends are what a run talks to beside the engine, logged in.
type Backends struct {
	Masked   *redact.Set
	Registry *registry.Client
	ECR      ECR // nil for a registry on this machine, whose repositories come by themselves
	Login    builder.Login
	Secrets  func(plan.Image) map[string]plan.Secret
	Bases    *baseimage.Images
	State    *hoststate.State
}

// ECR is what ECR's own API does for a run, beside the registry protocol.
type ECR interface {
	// CreateRepository makes the repository of an image as its plan has it.
	CreateRepository(context.Context, plan.Image) error
	// CheckTagsFree returns a *registry.TagTakenError for a tag that is there.
	CheckTagsFree(context.Context, plan.Image) error
	// TagCount is how many tags an image has, 0 where that cannot be known.
	TagCount(context.Context, plan.Image, digest.Digest) int
	// TagStates looks at the tags of images, by "repository:tag"; nil for nothing known.
	TagStates(context.Context, []plan.Image) map[string]registry.TagState
}
