package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/smithy-go"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// CreateRepository makes the repository of an image as its plan has it. One
// that has appeared meanwhile is fine.
func (a *AWS) CreateRepository(ctx context.Context, account string, img plan.Image) error {
	client := ecr.NewFromConfig(a.Config)
	in := &ecr.CreateRepositoryInput{
		RepositoryName:             &img.Repository,
		ImageScanningConfiguration: &types.ImageScanningConfiguration{ScanOnPush: img.Create.ScanOnPush},
		ImageTagMutability:         types.ImageTagMutabilityMutable,
	}
	if img.Create.Immutable {
		in.ImageTagMutability = types.ImageTagMutabilityImmutable
	}
	if account != "" {
		in.RegistryId = &account
	}
	var api smithy.APIError
	if _, err := client.CreateRepository(ctx, in); err != nil {
		if errors.As(err, &api) && api.ErrorCode() == "RepositoryAlreadyExistsException" {
			return nil
		}
		return &AWSError{Action: "ecr:CreateRepository", Resources: []string{img.Repository}, Err: err}
	}
	if img.Create.LifecyclePolicy == "" {
		return nil
	}
	if _, err := client.PutLifecyclePolicy(ctx, &ecr.PutLifecyclePolicyInput{RepositoryName: &img.Repository, RegistryId: in.RegistryId, LifecyclePolicyText: &img.Create.LifecyclePolicy}); err != nil {
		return &AWSError{Action: "ecr:PutLifecyclePolicy", Resources: []string{img.Repository}, Err: err}
	}
	return nil
}

// A TakenError says that a tag names an image already.
type TakenError struct{ Repository, Tag, Digest string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s:%s is taken by %s", e.Repository, e.Tag, e.Digest)
}

// CheckTags is for on_immutable: fail: a tag of the image that is there
// already is a *TakenError.
func (a *AWS) CheckTags(ctx context.Context, account string, img plan.Image) error {
	client := ecr.NewFromConfig(a.Config)
	for _, tag := range img.Tags {
		in := &ecr.DescribeImagesInput{RepositoryName: &img.Repository, ImageIds: []types.ImageIdentifier{{ImageTag: &tag}}}
		if account != "" {
			in.RegistryId = &account
		}
		out, err := client.DescribeImages(ctx, in)
		var api smithy.APIError
		switch {
		case errors.As(err, &api) && (api.ErrorCode() == "ImageNotFoundException" || api.ErrorCode() == "RepositoryNotFoundException"):
		case err != nil:
			return &AWSError{Action: "ecr:DescribeImages", Resources: []string{img.Repository}, Err: err}
		case len(out.ImageDetails) > 0:
			return &TakenError{Repository: img.Repository, Tag: tag, Digest: aws.ToString(out.ImageDetails[0].ImageDigest)}
		}
	}
	return nil
}
