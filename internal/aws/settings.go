package aws

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
)

// CreatedOnPush says whether the caller's registry makes a repository at its first push, by
// a repository creation template. It needs ecr:DescribeRepositoryCreationTemplates.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates.html
func (a *Client) CreatedOnPush(ctx context.Context, repository string) (bool, error) {
	var template types.RepositoryCreationTemplate // the one of the longest prefix
	// Not by the SDK's paginator, whose interface keeps every call of ECR in the binary: a megabyte.
	client, in := ecr.NewFromConfig(a.config), &ecr.DescribeRepositoryCreationTemplatesInput{}
	for more := true; more; more = in.NextToken != nil {
		page, err := client.DescribeRepositoryCreationTemplates(ctx, in)
		if err != nil {
			return false, &Error{Action: "ecr:DescribeRepositoryCreationTemplates", Err: err}
		}
		for _, t := range page.RepositoryCreationTemplates {
			prefix := aws.ToString(t.Prefix)
			if prefix != "ROOT" && !strings.HasPrefix(repository, strings.TrimSuffix(prefix, "/")+"/") {
				continue
			}
			best := aws.ToString(template.Prefix)
			if best == "" || best == "ROOT" || prefix != "ROOT" && len(prefix) > len(best) {
				template = t
			}
		}
		in.NextToken = page.NextToken
	}
	return slices.Contains(template.AppliedFor, types.RCTAppliedForCreateOnPush), nil
}

// SigningProfiles are the ARNs of the profiles with which the caller's registry signs what is
// pushed to a repository. It needs ecr:GetSigningConfiguration.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/managed-signing.html
func (a *Client) SigningProfiles(ctx context.Context, repository string) ([]string, error) {
	out, err := ecr.NewFromConfig(a.config).GetSigningConfiguration(ctx, &ecr.GetSigningConfigurationInput{})
	var none *types.SigningConfigurationNotFoundException
	switch {
	case errors.As(err, &none), err == nil && out.SigningConfiguration == nil:
		return nil, nil
	case err != nil:
		return nil, &Error{Action: "ecr:GetSigningConfiguration", Err: err}
	}
	var profiles []string
	for _, rule := range out.SigningConfiguration.Rules {
		matches := len(rule.RepositoryFilters) == 0
		for _, f := range rule.RepositoryFilters {
			pattern := strings.ReplaceAll(regexp.QuoteMeta(aws.ToString(f.Filter)), `\*`, ".*")
			matches = matches || regexp.MustCompile("^"+pattern+"$").MatchString(repository)
		}
		if profile := aws.ToString(rule.SigningProfileArn); matches && !slices.Contains(profiles, profile) {
			profiles = append(profiles, profile)
		}
	}
	return profiles, nil
}
