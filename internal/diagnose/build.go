package diagnose

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/iampolicy"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// build explains a failed build. BuildKit gives a type for a RUN that exits
// and for the place in the Dockerfile; pulls are known by their words alone.
func (f Facts) build(e *builder.BuildError) Finding {
	msg := e.Message()
	found := Finding{What: e.Image + ": the build failed", Why: msg, Exit: ExitBuild, File: e.Dockerfile}
	for _, l := range e.Lines {
		if l.At && found.Line == 0 {
			found.Line = l.Number
		}
	}
	if e.Step != "" {
		found.What = fmt.Sprintf("%s: %s failed", e.Image, e.Step)
	}
	host, repository := ecrBase(e)
	switch {
	case host != "" && strings.Contains(msg, "403 Forbidden"):
		f.ecrBaseRefused(&found, e, host, repository)
	case pullLimit(msg) && !hubLimit(msg):
		found.What = e.Image + ": a base image's registry is throttling"
		found.Do = []string{"run again in a while, or give an account for that registry under registries"}
		found.Exit = ExitPermission
	case pullLimit(msg):
		found.What = e.Image + ": Docker Hub's pull limit is reached"
		found.Exit = ExitPermission
		if f.Anonymous != "" {
			found.Why = "the pull was anonymous: " + f.Anonymous
			found.Do = append(found.Do, f.authFixes()...)
		} else {
			found.Why = "the limit is that of the configured Docker Hub account"
			if a, ok := f.used(plan.DockerHub); ok {
				found.Why = "the limit is that of " + a.String()
			}
			found.Do = append(found.Do, "one of:", "- use an account with a higher limit")
		}
		if words := registryWords.FindString(msg); words != "" {
			found.Why = words + "\n" + found.Why
		}
		found.Do = append(found.Do,
			"- take the base image from public.ecr.aws/docker/library, which has the official images",
			"- let ECR keep copies of Docker Hub's images with a pull-through cache rule")
	case strings.Contains(msg, "pull access denied") || strings.Contains(msg, "insufficient_scope") ||
		strings.Contains(msg, "401 Unauthorized") || strings.Contains(msg, "incorrect username or password"):
		found.What = e.Image + ": cannot pull a base image"
		found.Do = f.refusedPull(pulledHost(e))
		found.Exit = ExitPermission
	case baseNotFound.MatchString(msg):
		found.What = fmt.Sprintf("%s: there is no base image %s", e.Image, baseNotFound.FindStringSubmatch(msg)[1])
		found.Do = []string{"check its name and tag in the FROM line"}
	case strings.Contains(msg, "no such host") || strings.Contains(msg, "i/o timeout") ||
		strings.Contains(msg, "connection refused"):
		if e.ExitCode == 0 {
			found.What = e.Image + ": the engine could not reach a base image's registry"
			found.Do, found.Exit = []string{"check the image's name and the engine's network"}, ExitUnreachable
		}
	case e.Step == "" && (strings.Contains(msg, "dockerfile parse error") ||
		strings.Contains(msg, "file with no instructions")):
		found.What = e.Image + ": the Dockerfile does not parse"
	case notInContext.MatchString(msg):
		found.Why = notInContext.FindStringSubmatch(msg)[1] + " is not in the build context"
		found.Do = []string{"check the path, which starts at the context, and that .dockerignore lets it through"}
	case strings.Contains(msg, "target stage"):
		found.Do = []string{"set target (or BUILD_TARGET) to a stage of " + f.base(e)}
	case e.ExitCode == 137:
		found.Do = []string{"exit code 137 is a kill, most often for lack of memory: use a larger compute type"}
	}
	if e.ExitCode != 0 {
		found.Why = fmt.Sprintf("the command ended with exit code %d", e.ExitCode)
	}
	says := func(text string) bool {
		return slices.ContainsFunc(append(e.Output, msg),
			func(l string) bool { return strings.Contains(strings.ToLower(l), text) })
	}
	switch {
	case says("no space left on device"):
		found.Do = []string{"make room on the engine's disk, or give it a larger one; these say what is there, and remove what builds and images have left:",
			"  docker system df", "  docker builder prune", "  docker image prune"}
		if e.ExitCode != 0 {
			found.Do = append(found.Do, "a step that fills /dev/shm wants a larger shm_size, and one that fills a mount of type tmpfs a larger size there")
		}
	case says("exec format error"):
		found.Why = "the step runs programs of another platform, which the engine's machine cannot execute"
		found.Do = []string{"build on a machine of that platform, or let this one emulate it:",
			"  docker run --privileged --rm tonistiigi/binfmt --install all"}
	}
	found.Detail = excerpt(e)
	return found
}

// ecrImage finds a private ECR registry and a repository of it.
var ecrImage = regexp.MustCompile(`\b([0-9]{12}\.dkr[.-][a-z0-9.-]+)(?:/v2)?/([a-z0-9._/-]+?)(?::|@|/manifests/|/blobs/|[\s"]|$)`)

// ecrBase is the base image in ECR that a failed build is about, "" for none.
func ecrBase(e *builder.BuildError) (host, repository string) {
	for _, text := range []string{e.Message(), e.Step} {
		if m := ecrImage.FindStringSubmatch(text); m != nil && (registry.Host{Name: m[1]}).Account() != "" {
			return m[1], m[2]
		}
	}
	return "", ""
}

// ecrBaseRefused says which action IAM refused for a base image in ECR. The engine
// hears no reason, but for the request: a manifest, or a layer.
func (f Facts) ecrBaseRefused(found *Finding, e *builder.BuildError, host, repository string) {
	action := "ecr:BatchGetImage"
	if strings.Contains(e.Message(), "/blobs/") {
		action = "ecr:GetDownloadUrlForLayer"
	}
	h := registry.Host{Name: host}
	f.Account, f.Region = h.Account(), h.Region()
	found.What = fmt.Sprintf("%s: the role of this run is not allowed to call %s for %s, a base image's repository",
		e.Image, action,
		repository)
	found.Do = append([]string{"add this statement to the role's policy:"},
		iampolicy.Statement([]string{"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"},
			f.InRegistry("ecr", "repository/"+repository))...)
	if a, ok := f.used(host); ok && a.Username != "AWS" {
		found.Do = append(found.Do, host+" was asked with "+a.String())
	}
	if f.Caller != "" && f.Caller != h.Account() {
		found.Do = append(found.Do, "the repository's own policy, in account "+h.Account()+", must name this role too")
	}
	found.Exit = ExitPermission
}

// imageHost finds the host of a base image in what BuildKit says of it.
var imageHost = regexp.MustCompile(`(?:^|[\s"/])((?:[a-z0-9-]+\.)+[a-z0-9-]+(?::[0-9]+)?|localhost(?::[0-9]+)?)/[a-z0-9]`)

// pulledHost is the registry that a failed pull was for, "" where nobody says it.
func pulledHost(e *builder.BuildError) string {
	for _, text := range []string{e.Message(), e.Step} {
		for _, m := range imageHost.FindAllStringSubmatch(text, -1) {
			if host := plan.CanonicalHost(m[1]); host != "auth.docker.io" {
				return host
			}
		}
	}
	return ""
}

func (f Facts) used(host string) (plan.Account, bool) {
	if f.Used == nil {
		return plan.Account{}, false
	}
	return f.Used(host)
}

// refusedPull says with which account a registry was asked, and what to do.
func (f Facts) refusedPull(host string) []string {
	do := []string{"check its name; if it is private, give an account for its registry under docker_hub or registries"}
	name := host
	if host == plan.DockerHub {
		name = "Docker Hub"
	}
	switch a, ok := f.used(host); {
	case host == "":
		if f.Anonymous != "" {
			do = append(do, "Docker Hub was asked anonymously: "+f.Anonymous)
		}
	case ok:
		do = []string{"check its name; it may be private, or the account's password may be wrong",
			name + " was asked with " + a.String()}
	case host == plan.DockerHub && f.Anonymous != "":
		do = append(do, "Docker Hub was asked anonymously: "+f.Anonymous)
	default:
		do = append(do, name+" was asked anonymously: neither the configuration nor docker login has an account for it")
	}
	return do
}

// authFixes is the first of the three ways out of an anonymous pull's limit:
// what stands between the run and an account.
func (f Facts) authFixes() []string {
	var refused *aws.Error
	if errors.As(f.Refused, &refused) && (refused.IsKMS() || refused.IsDenied()) {
		return append([]string{"one of:", "- let the role have the account that is in the parameters:"},
			f.aws(refused).Do[1:]...)
	}
	return []string{"one of:", "- give an account: put its name and an access token into the SSM parameters DOCKER_HUB_ID and DOCKER_HUB_PASSWORD, or set DOCKER_USER and DOCKER_PASSWORD"}
}

// notInContext is how every BuildKit says that a COPY finds nothing.
var notInContext = regexp.MustCompile(`failed to c(?:ompute cache key|alculate checksum).* "?(/[^"\s]*?)"?:? not found`)

// baseNotFound is what is said of a base image that its registry does not have.
var baseNotFound = regexp.MustCompile(`([^\s"]+/[^\s"]+): not found$`)

func (f Facts) base(e *builder.BuildError) string { return filepath.Base(e.Dockerfile) }

// registryWords are Docker Hub's own, which people search for.
var registryWords = regexp.MustCompile(`toomanyrequests: .*`)

// hubLimit says that a refusal for too many pulls is Docker Hub's.
func hubLimit(msg string) bool {
	return strings.Contains(msg, "pull rate limit") || strings.Contains(msg, "docker.io") ||
		strings.Contains(msg, "docker.com")
}

// pullLimit knows both wordings of Docker Hub's refusal.
func pullLimit(msg string) bool {
	return strings.Contains(msg, "toomanyrequests") || strings.Contains(msg, "pull rate limit") ||
		strings.Contains(msg, "429 Too Many Requests")
}

// excerpt shows the Dockerfile around the step, and the end of its output.
func excerpt(e *builder.BuildError) (out []string) {
	for _, l := range e.Output {
		out = append(out, "| "+l)
	}
	for _, l := range e.Lines {
		if l.At {
			out = append(out, fmt.Sprintf("%s:%d", filepath.Base(e.Dockerfile), l.Number))
			break
		}
	}
	for _, l := range e.Lines {
		mark := "  "
		if l.At {
			mark = "> "
		}
		out = append(out, fmt.Sprintf("%s%3d  %s", mark, l.Number, l.Text))
	}
	return out
}
