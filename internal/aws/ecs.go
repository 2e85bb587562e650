package aws

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/ecsbuild/ecsbuild/internal/fault"
)

// Live is what a definitions file is held against: a service, or a task
// definition by family, family:revision or ARN.
type Live struct{ Cluster, Service, TaskDefinition string }

// Containers returns the container names of a live task definition, and what
// messages call it. What does not exist is a *fault.Error.
func (a *Client) Containers(ctx context.Context, live Live) (names []string, where string, err error) {
	client := ecs.NewFromConfig(a.config)
	name := live.TaskDefinition
	where = "the task definition " + name
	if live.Service != "" {
		if name, err = taskDefinition(ctx, client, live); err != nil {
			return nil, where, err
		}
		where = fmt.Sprintf("the task definition of service %s/%s", live.Cluster, live.Service)
	}
	td, err := client.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &name})
	if e := (&Error{Action: "ecs:DescribeTaskDefinition",
		Err: err}); err != nil && e.Code() == "ClientException" {
		return nil, where, &fault.Error{What: "there is no " + strings.TrimPrefix(where, "the "), Why: e.Message(),
			Fix: "correct its name, as in FAMILY, FAMILY:REVISION or its ARN, or the region"}
	} else if err != nil {
		return nil, where, e
	}
	for _, c := range td.TaskDefinition.ContainerDefinitions {
		names = append(names, aws.ToString(c.Name))
	}
	return names, where, nil
}

func taskDefinition(ctx context.Context, client *ecs.Client, live Live) (string, error) {
	out, err := client.DescribeServices(ctx,
		&ecs.DescribeServicesInput{Cluster: &live.Cluster, Services: []string{live.Service}})
	if e := (&Error{Action: "ecs:DescribeServices",
		Err: err}); err != nil && e.Code() == "ClusterNotFoundException" {
		return "", &fault.Error{What: "there is no cluster " + live.Cluster, Why: e.Message(),
			Fix: "correct its name, or the region"}
	} else if err != nil {
		return "", e
	}
	if len(out.Services) == 0 || aws.ToString(out.Services[0].Status) == "INACTIVE" {
		return "", &fault.Error{What: fmt.Sprintf("there is no service %s in the cluster %s", live.Service, live.Cluster),
			Fix: "correct the names, or leave the service out to skip this check"}
	}
	name := aws.ToString(out.Services[0].TaskDefinition)
	for _, d := range out.Services[0].Deployments { // a service of Express Mode has it there alone
		if name == "" && aws.ToString(d.Status) == "PRIMARY" {
			name = aws.ToString(d.TaskDefinition)
		}
	}
	if name == "" {
		return "", &Error{Action: "ecs:DescribeServices", Err: errors.New("the service names no task definition")}
	}
	return name, nil
}
