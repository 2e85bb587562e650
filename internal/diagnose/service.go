package diagnose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// loadAWS finds the caller's credentials.
type loadAWS func(context.Context) (*registry.AWS, error)

// Live is what a definitions file is held against: a service, or a task
// definition by family, family:revision or ARN.
type Live struct{ Cluster, Service, TaskDefinition string }

// CheckServices holds the containers of each definitions file that names a
// service against the service's live task definition.
func CheckServices(ctx context.Context, load loadAWS, p *plan.Plan) error {
	var errs []error
	for _, d := range p.Definitions {
		if d.Service != nil {
			errs = append(errs, CheckLive(ctx, load, Live{Cluster: d.Service.Cluster, Service: d.Service.Name}, d.Containers))
		}
	}
	return errors.Join(errs...)
}

// CheckLive says which containers the live task definition does not have.
func CheckLive(ctx context.Context, load loadAWS, live Live, containers []string) error {
	a, err := load(ctx)
	if err != nil {
		return err
	}
	client := ecs.NewFromConfig(a.Config)
	name := live.TaskDefinition
	where := "the task definition " + name
	if live.Service != "" {
		if name, err = taskDefinition(ctx, client, live); err != nil {
			return err
		}
		where = fmt.Sprintf("the task definition of service %s/%s", live.Cluster, live.Service)
	}
	td, err := client.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &name})
	if e := (&registry.AWSError{Action: "ecs:DescribeTaskDefinition",
		Err: err}); err != nil && e.Code() == "ClientException" {
		return &fault.Error{What: "there is no " + strings.TrimPrefix(where, "the "), Why: e.Message(),
			Fix: "correct its name, as in FAMILY, FAMILY:REVISION or its ARN, or the region"}
	} else if err != nil {
		return e
	}
	var there []string
	for _, c := range td.TaskDefinition.ContainerDefinitions {
		there = append(there, aws.ToString(c.Name))
	}
	var errs fault.Errors
	for _, c := range containers {
		if slices.Contains(there, c) {
			continue
		}
		e := &fault.Error{What: fmt.Sprintf("%s has no container %q", where, c), Why: "its containers are " + strings.Join(there, ", ")}
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

func taskDefinition(ctx context.Context, client *ecs.Client, live Live) (string, error) {
	out, err := client.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: &live.Cluster, Services: []string{live.Service}})
	if e := (&registry.AWSError{Action: "ecs:DescribeServices",
		Err: err}); err != nil && e.Code() == "ClusterNotFoundException" {
		return "", &fault.Error{What: "there is no cluster " + live.Cluster, Why: e.Message(),
			Fix: "correct its name, or the region"}
	} else if err != nil {
		return "", e
	}
	if len(out.Services) == 0 || aws.ToString(out.Services[0].Status) == "INACTIVE" {
		return "", &fault.Error{What: fmt.Sprintf("there is no service %s in the cluster %s", live.Service, live.Cluster), Fix: "correct the names, or leave the service out to skip this check"}
	}
	name := aws.ToString(out.Services[0].TaskDefinition)
	if name == "" {
		return "", &registry.AWSError{Action: "ecs:DescribeServices", Err: errors.New("the service names no task definition")}
	}
	return name, nil
}
