package pipeline

import (
	"context"

	"github.com/ecsbuild/ecsbuild/internal/baseimage"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// Credentials are the answers of the parameter stores and of ECR.
type Backends struct {
	Masked   *redact.Set
	Registry *registry.Client
	Login    builder.Login
	Secrets  func(plan.Image) map[string]plan.Secret
	Bases    *baseimage.Images
	State    *hoststate.State

	CreateRepository func(context.Context, plan.Image) error // nil where repositories come by themselves
	CheckTagsFree    func(context.Context, plan.Image) error
	TagStates        func(context.Context, []plan.Image) map[string]registry.TagState // nil where tags are nobody else's
}
