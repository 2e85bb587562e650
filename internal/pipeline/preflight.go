package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/baseimage"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// CheckDockerfiles reads the local Dockerfiles, each once: whether they parse, have
// the target, and declare the arguments. Errors come in the order of the plan; warnings
// go to warn.
func CheckDockerfiles(p *plan.Plan, warn func(image, text string)) (dockerfile.Files, error) {
	files, errs := dockerfile.ReadAll(p.Images)
	for i, img := range p.Images {
		warnings, err := files[img.Name()].Check(img)
		for _, w := range warnings {
			warn(img.Name(), w)
		}
		errs[i] = cmp.Or(errs[i], err)
	}
	return files, errors.Join(errs...)
}

// hubBases counts the base images of a plan that Docker Hub counts as pulls.
func hubBases(p *plan.Plan, files dockerfile.Files) int {
	seen := map[string]bool{}
	for _, img := range p.Images {
		for _, b := range files[img.Name()].References(img.Build).All() {
			if host, _, _ := strings.Cut(b, "/"); plan.CanonicalHost(host) == plan.DockerHub { // names are normalized
				seen[b] = true
			}
		}
	}
	return len(seen)
}

// A HubCheck is what Docker Hub says before a build.
type HubCheck struct {
	Asked   bool   // whether a base image comes from there
	Text    string // a sentence for doctor
	Warning bool
}

// CheckHub asks Docker Hub whether it accepts the account, and how many pulls
// are left, where a base image comes from there.
func CheckHub(ctx context.Context, p *plan.Plan, files dockerfile.Files, b *Backends, agent string) (HubCheck, error) {
	n := hubBases(p, files)
	if n == 0 {
		return HubCheck{Text: "no base image comes from Docker Hub, as far as the Dockerfiles say"}, nil
	}
	account, ok := b.Login(ctx, plan.DockerHub)
	who := "with " + account.String()
	if !ok {
		who = "anonymously"
	}
	limit, err := baseimage.DockerHubLimit(ctx, account, agent)
	var refused *baseimage.RefusedError
	switch {
	case errors.As(err, &refused):
		return HubCheck{}, err
	case err != nil: // the engine may have another way there: no reason to stop
		return HubCheck{true, "Docker Hub could not be asked: " + err.Error(), true}, nil
	case limit.Remaining < 0:
		return HubCheck{true, fmt.Sprintf("base images are pulled %s; Docker Hub names no limit", who), false}, nil
	case limit.Remaining < n:
		return HubCheck{true, fmt.Sprintf("Docker Hub has %d of %d pulls left for this address or account (%s), and the Dockerfiles name %d base images",
			limit.Remaining, limit.Limit, who, n), true}, nil
	}
	return HubCheck{true, fmt.Sprintf("base images are pulled %s; %d of %d pulls are left", who, limit.Remaining,
		limit.Limit), false}, nil
}
