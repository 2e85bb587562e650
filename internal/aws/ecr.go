package aws

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
	"github.com/aws/smithy-go"

	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// CreateRepository makes the repository of an image as its plan has it. One
// that has appeared meanwhile is fine.
func (a *Client) CreateRepository(ctx context.Context, account string, img plan.Image) error {
	client := ecr.NewFromConfig(a.config)
	in := &ecr.CreateRepositoryInput{
		RepositoryName:             &img.Repository,
		ImageScanningConfiguration: &types.ImageScanningConfiguration{ScanOnPush: img.Create.ScanOnPush},
		ImageTagMutability:         types.ImageTagMutabilityMutable,
	}
	if img.Create.Immutable {
		in.ImageTagMutability = types.ImageTagMutabilityImmutable
	}
	for _, pattern := range img.Create.Except {
		in.ImageTagMutability = types.ImageTagMutabilityImmutableWithExclusion
		in.ImageTagMutabilityExclusionFilters = append(in.ImageTagMutabilityExclusionFilters,
			types.ImageTagMutabilityExclusionFilter{Filter: &pattern, FilterType: types.ImageTagMutabilityExclusionFilterTypeWildcard})
	}
	if account != "" {
		in.RegistryId = &account
	}
	var api smithy.APIError
	if _, err := client.CreateRepository(ctx, in); err != nil {
		if errors.As(err, &api) && api.ErrorCode() == "RepositoryAlreadyExistsException" {
			return nil
		}
		return &Error{Action: "ecr:CreateRepository", Resources: []string{img.Repository}, Err: err}
	}
	if img.Create.LifecyclePolicy == "" {
		return nil
	}
	if _, err := client.PutLifecyclePolicy(ctx,
		&ecr.PutLifecyclePolicyInput{RepositoryName: &img.Repository, RegistryId: in.RegistryId,
			LifecyclePolicyText: &img.Create.LifecyclePolicy}); err != nil {
		return &Error{Action: "ecr:PutLifecyclePolicy", Resources: []string{img.Repository}, Err: err}
	}
	return nil
}

// CreatePublicRepository makes the repository of an image in ECR Public. One that has appeared
// meanwhile is fine.
func (a *Client) CreatePublicRepository(ctx context.Context, img plan.Image) error {
	_, name, _ := strings.Cut(img.Repository, "/") // the registry's alias
	var api smithy.APIError
	_, err := a.ecrPublic().CreateRepository(ctx, &ecrpublic.CreateRepositoryInput{RepositoryName: &name})
	if err == nil || errors.As(err, &api) && api.ErrorCode() == "RepositoryAlreadyExistsException" {
		return nil
	}
	return &Error{Action: "ecr-public:CreateRepository", Resources: []string{img.Repository}, Err: err}
}

// CheckTagsFree is for on_immutable: fail: a tag of the image that is there
// already is a *registry.TagTakenError.
func (a *Client) CheckTagsFree(ctx context.Context, account string, img plan.Image) error {
	for _, tag := range img.Tags {
		d, err := a.tagDigest(ctx, account, img.Repository, tag)
		if err != nil {
			return err
		}
		if d != "" {
			return &registry.TagTakenError{Repository: img.Repository, Tag: tag, Digest: d.String(), Why: "on_immutable is fail"}
		}
	}
	return nil
}
