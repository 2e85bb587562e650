package awstest

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
)

// CreateOnPush has a first push make repositories below a prefix, as a creation template does.
func (r *Rig) CreateOnPush(prefix string) {
	r.mu.Lock()
	r.createOnPush = append(r.createOnPush, prefix)
	r.mu.Unlock()
}

// Sign has ECR sign images of the repositories that match, with a signing profile.
func (r *Rig) Sign(filter, profile string) {
	r.mu.Lock()
	r.signing = map[string]string{filter: profile}
	r.mu.Unlock()
}

// AddTags gives an image more tags: those of TAG-0 to TAG-N-1.
func (r *Rig) AddTags(account, name, tag string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	repo := r.repositories[account+"/"+name]
	for i := range n {
		repo.tags[fmt.Sprintf("%s-%d", tag, i)] = repo.tags[tag]
	}
}

// tagsOf are the tags of an image.
func (repo *repository) tagsOf(image digest.Digest) (tags []string) {
	if repo == nil || image == "" {
		return nil
	}
	for tag, d := range repo.tags {
		if d == image {
			tags = append(tags, tag)
		}
	}
	return tags
}

// Damage cuts a blob off at a size. A registry knows that it does not have it, and a GET
// that comes all the same gets what is left.
func (r *Rig) Damage(account, name string, blob digest.Digest, size int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.repositories[account+"/"+name].blobs, blob.String())
	return os.Truncate(filepath.Join(r.Dir, "ecr", account, url.PathEscape(name), "blobs", blob.Algorithm().String(),
		blob.Encoded()), size)
}

// Tokens are the tokens that ECR and Docker Hub have given so far.
func (r *Rig) Tokens() []string {
	r.mu.Lock()
	tokens := slices.Collect(maps.Keys(r.tokens))
	r.mu.Unlock()
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return slices.AppendSeq(tokens, maps.Keys(r.hub.tokens))
}

// AllowMounting turns blob mounting on, as an account's setting does.
func (r *Rig) AllowMounting() { r.mu.Lock(); r.mounting = true; r.mu.Unlock() }

func (r *Rig) describeCreationTemplates(map[string]any) (any, *awsError) {
	if !r.allowed("ecr:DescribeRepositoryCreationTemplates", "*") {
		return nil, denied("ecr:DescribeRepositoryCreationTemplates", "*")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	templates := []any{}
	for _, prefix := range r.createOnPush {
		templates = append(templates, map[string]any{"prefix": prefix, "appliedFor": []string{"CREATE_ON_PUSH"}})
	}
	return map[string]any{"registryId": Account, "repositoryCreationTemplates": templates}, nil
}

func (r *Rig) getSigningConfiguration(map[string]any) (any, *awsError) {
	if !r.allowed("ecr:GetSigningConfiguration", "*") {
		return nil, denied("ecr:GetSigningConfiguration", "*")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.signing == nil {
		return nil, &awsError{http.StatusBadRequest, "SigningConfigurationNotFoundException",
			"The signing configuration does not exist"}
	}
	var rules []any
	for filter, profile := range r.signing {
		rules = append(rules, map[string]any{"signingProfileArn": profile,
			"repositoryFilters": []any{map[string]any{"filter": filter, "filterType": "WILDCARD_MATCH"}}})
	}
	return map[string]any{"registryId": Account, "signingConfiguration": map[string]any{"rules": rules}}, nil
}
