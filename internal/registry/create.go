package registry

import (
	"context"
	"errors"
	"fmt"

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

// A TakenError says that a tag names another image already, and will not move.
type TakenError struct {
	Repository, Tag, Digest string
	Why                     string // why it will not: the repository's rule, or on_immutable
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s:%s is taken by %s", e.Repository, e.Tag, e.Digest)
}

// CheckTags is for on_immutable: fail: a tag of the image that is there
// already is a *TakenError.
func (a *AWS) CheckTags(ctx context.Context, account string, img plan.Image) error {
	for _, tag := range img.Tags {
		d, err := a.tagDigest(ctx, account, img.Repository, tag)
		if err != nil {
			return err
		}
		if d != "" {
			return &TakenError{Repository: img.Repository, Tag: tag, Digest: d.String(), Why: "on_immutable is fail"}
		}
	}
	return nil
}
