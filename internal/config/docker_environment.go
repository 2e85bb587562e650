package config

import (
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"strings"

	"github.com/containerd/platforms"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// dockerEnvironment takes what docker build takes from the environment, for images
// that do not say otherwise, and names what ecsbuild does not take.
func (b *resolver) dockerEnvironment() error {
	targets, err := defaultPlatforms(b.env["DOCKER_DEFAULT_PLATFORM"])
	if err != nil {
		return err
	}
	epoch := b.env[plan.SourceDateEpoch]
	if epoch != "" && !wholeNumber.MatchString(epoch) {
		return &fault.Error{Place: plan.SourceDateEpoch, What: fmt.Sprintf("%q is not a number of seconds since 1970", epoch),
			Fix: "set it as in SOURCE_DATE_EPOCH=$(git log -1 --pretty=%ct), or unset it"}
	}
	for i := range b.plan.Images {
		build := &b.plan.Images[i].Build
		if len(build.Platforms) == 0 {
			build.Platforms = targets
		}
		if _, ok := build.Args[plan.SourceDateEpoch]; !ok && epoch != "" {
			args := map[string]string{plan.SourceDateEpoch: epoch}
			maps.Copy(args, build.Args)
			build.Args = args
		}
	}
	b.plan.Warnings = append(b.plan.Warnings, b.notHonoured()...)
	return nil
}

// defaultPlatforms reads DOCKER_DEFAULT_PLATFORM: one platform, or several with
// commas. An architecture alone is one of Linux.
func defaultPlatforms(text string) (out []string, _ error) {
	if text == "" {
		return nil, nil
	}
	for _, p := range strings.Split(text, ",") {
		name := p
		switch strings.ToLower(p) {
		case "linux", "local":
			name = "linux/" + runtime.GOARCH
		default:
			if !strings.Contains(p, "/") {
				name = "linux/" + p
			}
		}
		parsed, err := platforms.Parse(name)
		if err != nil || p == "" {
			return nil, &fault.Error{Place: "DOCKER_DEFAULT_PLATFORM", What: fmt.Sprintf("%q is not a platform", p),
				Fix: "write it as in linux/amd64 or linux/arm64, or unset it"}
		}
		out = append(out, platforms.Format(parsed))
	}
	return unique(out), nil
}

// notHonoured names the variables of docker and buildx that would change a build
// there, and do not here.
func (b *resolver) notHonoured() (warnings []string) {
	say := func(name, text string) {
		warnings = append(warnings, fmt.Sprintf("%s=%s is not used: %s", name, b.env[name], text))
	}
	off := func(name string) bool { on, err := strconv.ParseBool(b.env[name]); return err == nil && !on }
	on := func(name string) bool { on, err := strconv.ParseBool(b.env[name]); return err == nil && on }
	if off("DOCKER_BUILDKIT") {
		say("DOCKER_BUILDKIT", "ecsbuild always builds with BuildKit")
	}
	if v := b.env["BUILDX_BUILDER"]; v != "" && v != "default" && b.env["BUILDKIT_HOST"] == "" {
		say("BUILDX_BUILDER", "ecsbuild builds with the Docker engine, or with the buildkitd that BUILDKIT_HOST names")
	}
	if on("DOCKER_CONTENT_TRUST") {
		say("DOCKER_CONTENT_TRUST", "signatures of base images are not checked; name them by digest instead")
	}
	if v := b.env["BUILDX_GIT_LABELS"]; v != "" && !off("BUILDX_GIT_LABELS") {
		say("BUILDX_GIT_LABELS", "give the labels under labels")
	}
	return warnings
}
