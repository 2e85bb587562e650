package aws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
)

func TestImmutable(t *testing.T) {
	filters := []types.ImageTagMutabilityExclusionFilter{{Filter: aws.String("latest")}, {Filter: aws.String("dev-*")}}
	for _, test := range []struct {
		mode types.ImageTagMutability
		tag  string
		want bool
	}{
		{"MUTABLE", "latest", false}, {"IMMUTABLE", "latest", true},
		{"IMMUTABLE_WITH_EXCLUSION", "latest", false}, {"IMMUTABLE_WITH_EXCLUSION", "dev-1",
			false}, {"IMMUTABLE_WITH_EXCLUSION", "v1", true},
		{"MUTABLE_WITH_EXCLUSION", "latest", true}, {"MUTABLE_WITH_EXCLUSION", "v1", false}, {"", "v1", false},
	} {
		if got := (Mutability{test.mode, filters}).immutable(test.tag); got != test.want {
			t.Errorf("%s %s: %v", test.mode, test.tag, got)
		}
	}
}
