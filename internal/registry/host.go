package registry

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A Host is a registry's address: where it is reached and what image names
// begin with.
type Host struct {
	Name  string // "123456789012.dkr.ecr.us-east-1.amazonaws.com", with a port where there is one
	Plain bool   // HTTP without TLS, for loopback alone
}

// ecrHost matches the registries of every partition, FIPS and dual-stack
// names included; the first group is the account, the second the region.
// https://docs.aws.amazon.com/general/latest/gr/ecr.html
var ecrHost = regexp.MustCompile(`^([0-9]{12})\.dkr(?:\.ecr|-ecr)(?:-fips)?\.([a-z0-9-]+)\.(on\.aws|on\.amazonwebservices\.com\.cn|amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$`)

// ParseHost reads the proxyEndpoint of ECR's token answer.
func ParseHost(endpoint string) (Host, error) {
	h := Host{Name: endpoint}
	if rest, ok := strings.CutPrefix(endpoint, "https://"); ok {
		h.Name = rest
	} else if rest, ok := strings.CutPrefix(endpoint, "http://"); ok {
		h = Host{Name: rest, Plain: true}
	}
	h.Name = strings.TrimSuffix(h.Name, "/")
	if h.Plain && !plan.IsLoopback(h.Name) {
		return Host{}, fmt.Errorf("the registry %s is named without TLS, and it is not on this machine", h.Name)
	}
	if h.Name == "" || strings.ContainsAny(h.Name, "/@ ?#") {
		return Host{}, fmt.Errorf("%q is not a registry's address", endpoint)
	}
	return h, nil
}

// PublicHost is ECR Public.
func PublicHost() Host { return Host{Name: plan.PublicRegistry} }

// IsPublic says whether it is ECR Public.
func (h Host) IsPublic() bool { return h.Name == plan.PublicRegistry }

// service is how IAM calls the service of its actions.
func (h Host) service() string {
	if h.IsPublic() {
		return "ecr-public"
	}
	return "ecr"
}

func (h Host) scheme() string {
	if h.Plain {
		return "http"
	}
	return "https"
}

// ForAccount returns the same registry of another account. A host that names no
// account stays what it is.
func (h Host) ForAccount(account string) Host {
	if m := ecrHost.FindStringSubmatch(h.Name); m != nil && account != "" {
		h.Name = account + strings.TrimPrefix(h.Name, m[1])
	}
	return h
}

// Account and Region are what an ECR host names; "" for any other.
func (h Host) Account() string { return h.part(1) }
func (h Host) Region() string  { return h.part(2) }

func (h Host) part(i int) string {
	if m := ecrHost.FindStringSubmatch(h.Name); m != nil {
		return m[i]
	}
	return ""
}

// DefaultHost is the host that ECR would most likely name, for a dry run that
// asks nobody. It is "" where account or region is unknown.
func DefaultHost(account, region string) Host {
	if account == "" || region == "" {
		return Host{}
	}
	return Host{Name: account + ".dkr.ecr." + region + "." + PartitionOf(region).Domain}
}

// IsECR says whether a host is a private ECR registry in a region: the token
// of that region opens it, where the caller's policy lets it.
func IsECR(host, region string) bool { return Host{Name: host}.Region() == region && region != "" }

// A Partition is a set of regions with accounts and names of its own.
// https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html
type Partition struct {
	ID     string // the second part of an ARN
	Domain string // what the names of its services end with

	prefix string // of its regions
}

var partitions = []Partition{
	{"aws-cn", "amazonaws.com.cn", "cn-"},
	{"aws-us-gov", "amazonaws.com", "us-gov-"},
	{"aws-iso", "c2s.ic.gov", "us-iso-"},
	{"aws-iso-b", "sc2s.sgov.gov", "us-isob-"},
	{"aws-iso-e", "cloud.adc-e.uk", "eu-isoe-"},
	{"aws-iso-f", "csp.hci.ic.gov", "us-isof-"},
	{"aws-eusc", "amazonaws.eu", "eusc-"},
}

// PartitionOf finds the partition of a region.
func PartitionOf(region string) Partition {
	for _, p := range partitions {
		if strings.HasPrefix(region, p.prefix) {
			return p
		}
	}
	return Partition{ID: "aws", Domain: "amazonaws.com"}
}
