package diagnose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// CheckServices holds the containers of each definitions file that names a
// service against the service's live task definition.
func CheckServices(ctx context.Context, load func(context.Context) (*registry.AWS, error), p *plan.Plan) error {
	a, err := load(ctx)
	if err != nil {
		return err
	}
	client := ecs.NewFromConfig(a.Config)
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range p.Definitions {
		if d.Service != nil {
			g.Go(func() error { return checkService(ctx, client, d) })
		}
	}
	return g.Wait()
}

func checkService(ctx context.Context, client *ecs.Client, d plan.Definitions) error {
	s := d.Service
	out, err := client.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: &s.Cluster, Services: []string{s.Name}})
	if err != nil {
		return &registry.AWSError{Action: "ecs:DescribeServices", Err: err}
	}
	if len(out.Services) == 0 || aws.ToString(out.Services[0].Status) == "INACTIVE" {
		return &plan.Error{What: fmt.Sprintf("there is no service %s in the cluster %s", s.Name, s.Cluster), Fix: "correct service under definitions, or leave it out to skip this check"}
	}
	arn := aws.ToString(out.Services[0].TaskDefinition)
	if arn == "" {
		return &registry.AWSError{Action: "ecs:DescribeServices", Err: errors.New("the service names no task definition")}
	}
	td, err := client.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &arn})
	if err != nil {
		return &registry.AWSError{Action: "ecs:DescribeTaskDefinition", Err: err}
	}
	var live []string
	for _, c := range td.TaskDefinition.ContainerDefinitions {
		live = append(live, aws.ToString(c.Name))
	}
	var errs plan.Errors
	for _, c := range d.Containers {
		if slices.Contains(live, c) {
			continue
		}
		e := &plan.Error{What: fmt.Sprintf("the task definition of service %s/%s has no container %q", s.Cluster, s.Name, c), Why: "its containers are " + strings.Join(live, ", ")}
		if near := plan.Closest(c, live); near != "" {
			e.Fix = fmt.Sprintf("did you mean %s?", near)
		}
		errs = append(errs, e)
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}
