package aws

import (
	"context"
	"errors"
	"path"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/smithy-go"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// TagDigest asks a registry what a tag points at, "" for nothing.
type TagDigest func(ctx context.Context, repository, tag string) (digest.Digest, error)

// TagStates looks at the tags of images, by "repository:tag". It needs
// ecr:BatchGetImage or ecr:DescribeImages, and ecr:DescribeRepositories to know
// which tags are immutable; nil where the first two are refused, which costs a run
// nothing but the knowledge.
func (a *Client) TagStates(ctx context.Context, look TagDigest, account string,
	images []plan.Image) map[string]registry.TagState {
	if len(images) == 0 {
		return nil
	}
	if _, err := look(ctx, images[0].Repository, images[0].Tags[0]); err != nil {
		look = func(ctx context.Context, repository, tag string) (digest.Digest, error) {
			return a.tagDigest(ctx, account, repository, tag)
		}
		if _, err := look(ctx, images[0].Repository, images[0].Tags[0]); err != nil {
			return nil
		}
	}
	rules := a.immutability(ctx, account, images)
	states := map[string]registry.TagState{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, img := range images {
		for _, tag := range img.Tags {
			g.Go(func() error {
				d, err := look(ctx, img.Repository, tag)
				if err != nil {
					return nil // nothing is known of this one
				}
				mu.Lock()
				defer mu.Unlock()
				states[img.Repository+":"+tag] = registry.TagState{Digest: d, Immutable: rules[img.Repository].immutable(tag)}
				return nil
			})
		}
	}
	_ = g.Wait()
	return states
}

// tagDigest is TagDigest by ECR's own API: ecr:DescribeImages.
func (a *Client) tagDigest(ctx context.Context, account, repository, tag string) (digest.Digest, error) {
	details, err := a.describeImage(ctx, account, repository, types.ImageIdentifier{ImageTag: &tag})
	return digest.Digest(aws.ToString(details.ImageDigest)), err
}

// TagCount is how many tags an image has, 0 for one that is not there. It needs
// ecr:DescribeImages.
func (a *Client) TagCount(ctx context.Context, account, repository string, image digest.Digest) (int, error) {
	details, err := a.describeImage(ctx, account, repository,
		types.ImageIdentifier{ImageDigest: aws.String(image.String())})
	return len(details.ImageTags), err
}

// describeImage is ecr:DescribeImages of one image; no details of one that is not there.
func (a *Client) describeImage(ctx context.Context, account, repository string,
	id types.ImageIdentifier) (types.ImageDetail, error) {
	in := &ecr.DescribeImagesInput{RepositoryName: &repository, ImageIds: []types.ImageIdentifier{id}}
	if account != "" {
		in.RegistryId = &account
	}
	out, err := ecr.NewFromConfig(a.config).DescribeImages(ctx, in)
	var api smithy.APIError
	switch {
	case errors.As(err, &api) && (api.ErrorCode() == "ImageNotFoundException" ||
		api.ErrorCode() == "RepositoryNotFoundException"):
		return types.ImageDetail{}, nil
	case err != nil:
		return types.ImageDetail{}, &Error{Action: "ecr:DescribeImages", Resources: []string{repository}, Err: err}
	case len(out.ImageDetails) == 0:
		return types.ImageDetail{}, nil
	}
	return out.ImageDetails[0], nil
}

// Mutability is how a repository lets tags move.
type Mutability struct {
	mode    types.ImageTagMutability
	filters []types.ImageTagMutabilityExclusionFilter
}

// String is ECR's word for it, such as MUTABLE.
func (m Mutability) String() string { return string(m.mode) }

// Immutable says that no tag may move.
func (m Mutability) Immutable() bool { return m.mode == types.ImageTagMutabilityImmutable }

// Mutability asks for the rules of one repository, which needs
// ecr:DescribeRepositories. One that does not exist is a *MissingError.
func (a *Client) Mutability(ctx context.Context, account, repository string) (Mutability, error) {
	in := &ecr.DescribeRepositoriesInput{RepositoryNames: []string{repository}}
	if account != "" {
		in.RegistryId = &account
	}
	out, err := ecr.NewFromConfig(a.config).DescribeRepositories(ctx, in)
	var api smithy.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode() == "RepositoryNotFoundException":
		return Mutability{}, &MissingError{Service: "ECR", Region: a.Region(), Names: []string{repository}}
	case err != nil:
		return Mutability{}, &Error{Action: "ecr:DescribeRepositories", Resources: []string{repository}, Err: err}
	case len(out.Repositories) != 1:
		return Mutability{}, &Error{Action: "ecr:DescribeRepositories", Resources: []string{repository},
			Err: errors.New("the answer describes no repository")}
	}
	r := out.Repositories[0]
	return Mutability{r.ImageTagMutability, r.ImageTagMutabilityExclusionFilters}, nil
}

// immutable says whether a tag that is there may not move.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html
func (m Mutability) immutable(tag string) bool {
	excluded := false
	for _, f := range m.filters {
		ok, _ := path.Match(aws.ToString(f.Filter), tag) // a tag has no slash
		excluded = excluded || ok
	}
	switch m.mode {
	case types.ImageTagMutabilityImmutable:
		return true
	case types.ImageTagMutabilityImmutableWithExclusion:
		return !excluded
	case types.ImageTagMutabilityMutableWithExclusion:
		return excluded
	}
	return false
}

// immutability asks for the rules of the images' repositories; none where that is
// refused.
func (a *Client) immutability(ctx context.Context, account string, images []plan.Image) map[string]Mutability {
	in := &ecr.DescribeRepositoriesInput{}
	if account != "" {
		in.RegistryId = &account
	}
	seen := map[string]bool{}
	for _, img := range images {
		if !seen[img.Repository] && len(in.RepositoryNames) < 100 { // as many as one call takes
			seen[img.Repository] = true
			in.RepositoryNames = append(in.RepositoryNames, img.Repository)
		}
	}
	out, err := ecr.NewFromConfig(a.config).DescribeRepositories(ctx, in)
	if err != nil {
		return nil
	}
	rules := map[string]Mutability{}
	for _, r := range out.Repositories {
		rules[aws.ToString(r.RepositoryName)] = Mutability{r.ImageTagMutability, r.ImageTagMutabilityExclusionFilters}
	}
	return rules
}
