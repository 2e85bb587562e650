package plan

import (
	"strings"

	"github.com/distribution/reference"
)

// ContextName is the name of a context as BuildKit compares it with those of a Dockerfile:
// base for base:latest and docker.io/library/base. It is "" for one that cannot be.
// https://github.com/moby/buildkit/blob/v0.34.2/frontend/dockerui/config.go
func ContextName(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil || name == "scratch" {
		return ""
	}
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest")
}
