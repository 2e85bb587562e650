package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// loadAWS finds the caller's credentials.
type loadAWS func(context.Context) (*aws.Client, error)

// CheckServices holds the containers of each definitions file that names a
// service against the service's live task definition.
func CheckServices(ctx context.Context, load loadAWS, p *plan.Plan) error {
	var errs []error
	there := func(ctx context.Context) (*aws.Client, error) {
		a, err := load(ctx)
		if err != nil {
			return nil, err
		}
		return a.InRegion(p.CallerRegion), nil
	}
	for _, d := range p.Definitions {
		if d.Service != nil {
			errs = append(errs, CheckLive(ctx, there, aws.Live{Cluster: d.Service.Cluster, Service: d.Service.Name},
				d.Containers()))
		}
	}
	return errors.Join(errs...)
}

// CheckLive says which containers the live task definition does not have.
func CheckLive(ctx context.Context, load loadAWS, live aws.Live, containers []string) error {
	a, err := load(ctx)
	if err != nil {
		return err
	}
	there, where, err := a.Containers(ctx, live)
	if err != nil {
		return err
	}
	var errs fault.Errors
	for _, c := range containers {
		if slices.Contains(there, c) {
			continue
		}
		e := &fault.Error{What: fmt.Sprintf("%s has no container %q", where, c),
			Why: "its containers are " + strings.Join(there, ", ")}
		if near := fault.Closest(c, there); near != "" {
			e.Fix = fmt.Sprintf("did you mean %s?", near)
		}
		errs = append(errs, e)
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}
