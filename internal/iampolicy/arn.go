package iampolicy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// A Scope is where the resources of a run lie, for their ARNs.
type Scope struct {
	Region  string
	Account string // of the registry, "" for unknown
	Caller  string // the account of the role that runs this, "" for unknown

	Public bool // the registry is ECR Public

	CallerRegion string // where its parameters, secrets and services lie, "" for Region
}

// Statement is an IAM policy statement to paste.
func Statement(actions []string, resources ...string) []string {
	data, _ := json.MarshalIndent(struct {
		Effect   string
		Action   []string
		Resource []string
	}{"Allow", actions, resources}, "  ", "  ")
	return strings.Split("  "+string(data), "\n")
}

func (s Scope) account() string {
	if s.Account != "" {
		return s.Account
	}
	return "ACCOUNT"
}

func (s Scope) RegionName() string {
	if s.Region != "" {
		return s.Region
	}
	return "REGION"
}

// InCaller is that of what lies in the account of the caller.
func (s Scope) InCaller(service, resource string) string {
	if s.Caller != "" {
		s.Account = s.Caller
	}
	s.Region = cmp.Or(s.CallerRegion, s.Region)
	return s.InRegistry(service, resource)
}

// Repository is that of a repository of the registry; in ECR Public it begins with the
// registry's alias, which its ARN does not have.
func (s Scope) Repository(name string) string {
	if !s.Public {
		return s.InRegistry("ecr", "repository/"+name)
	}
	_, name, _ = strings.Cut(name, "/")
	return fmt.Sprintf("arn:aws:ecr-public::%s:repository/%s", s.account(), name)
}

func (s Scope) InRegistry(service, resource string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", registry.PartitionOf(s.Region).ID, service, s.RegionName(), s.account(),
		resource)
}

// ParameterARN is a parameter's, without the version or label that its name may
// end with: IAM knows neither.
// https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-versions.html
func (s Scope) ParameterARN(name string) string {
	arn, path := "", name
	if i := strings.Index(name, ":parameter/"); strings.HasPrefix(name, "arn:") && i > 0 {
		arn, path = name[:i+len(":parameter/")], name[i+len(":parameter/"):]
	}
	path, _, _ = strings.Cut(path, ":")
	if arn != "" {
		return arn + path
	}
	return s.InCaller("ssm", "parameter/"+strings.TrimPrefix(path, "/"))
}

// serviceARN is that of an ECS service, whose name or cluster may be an ARN.
func (s Scope) serviceARN(service plan.Service) string {
	if strings.HasPrefix(service.Name, "arn:") {
		return service.Name
	}
	if arn, cluster, ok := strings.Cut(service.Cluster, ":cluster/"); ok && strings.HasPrefix(arn, "arn:") {
		return arn + ":service/" + cluster + "/" + service.Name
	}
	return s.InCaller("ecs", "service/"+service.Cluster+"/"+service.Name)
}

// ecrARN is the repository of an image reference in ECR, "" for one elsewhere.
func (s Scope) ecrARN(ref string) string {
	host, path, ok := strings.Cut(ref, "/")
	h := registry.Host{Name: host}
	if !ok || h.Account() == "" {
		return ""
	}
	path, _, _ = strings.Cut(path, "@")
	path, _, _ = strings.Cut(path, ":")
	s.Account, s.Region = h.Account(), h.Region()
	return s.InRegistry("ecr", "repository/"+path)
}
