package builder

import (
	"regexp"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// BuildKit tells what a step does by its name alone. This file is the one place
// that reads those names.

// step is what a step's name says.
type step struct {
	kind     progress.StepKind
	base     string // the image that it begins with, as BuildKit spells it; "" for none
	frontend string // the image that reads the Dockerfile; "" for none
	platform string // that the image is taken for, where the build has several
	fetches  bool   // it takes something from the network beside images

	importsCache string // the reference of a cache that it reads, "" for none
	exportsCache bool
	exports      bool // it makes the image of what the other steps have come to
}

var (
	instructionStep = regexp.MustCompile(`^\[[^\]]*\] `)
	fromStep        = regexp.MustCompile(`^(?:\[[^\]]*\] )?FROM (\S+)$`)
	frontendStep    = regexp.MustCompile(`^docker-image://(\S+)$`)
	platformStep    = regexp.MustCompile(`^\[([a-z0-9]+/[a-z0-9/]+) `)
	fetchStep       = regexp.MustCompile(`\] (?:ONBUILD )?ADD .*(://|@\S+:)|^(https?|git)://`)
)

func parseStep(name string) (s step) {
	switch {
	case strings.HasPrefix(name, "[internal] "):
		s.kind = progress.InternalStep
	case strings.Contains(name, "] FROM "):
		s.kind = progress.BaseStep
	case instructionStep.MatchString(name):
		s.kind = progress.Instruction
	}
	if m := fromStep.FindStringSubmatch(name); m != nil {
		s.base = m[1]
	}
	if m := frontendStep.FindStringSubmatch(name); m != nil {
		s.frontend = m[1]
	}
	if m := platformStep.FindStringSubmatch(name); m != nil {
		s.platform = m[1]
	}
	s.fetches = fetchStep.MatchString(name)
	s.importsCache, _ = strings.CutPrefix(name, "importing cache manifest from ")
	if s.importsCache == name {
		s.importsCache = ""
	}
	s.exports = strings.HasPrefix(name, "exporting to ")
	s.exportsCache = strings.HasPrefix(name, "exporting cache")
	return s
}

// buildStatus is BuildKit's news in our own types.
func buildStatus(s *bkclient.SolveStatus) *progress.BuildStatus {
	out := &progress.BuildStatus{}
	for _, v := range s.Vertexes {
		out.Steps = append(out.Steps, progress.BuildStep{
			ID: v.Digest, Name: v.Name, Kind: parseStep(v.Name).kind, Started: v.Started, Completed: v.Completed,
			Cached: v.Cached, Error: v.Error, Canceled: strings.Contains(v.Error, "context canceled"),
		})
	}
	for _, l := range s.Logs {
		out.Output = append(out.Output, progress.StepOutput{Step: l.Vertex, Stream: l.Stream, Data: l.Data,
			Time: l.Timestamp})
	}
	for _, t := range s.Statuses {
		out.Transfers = append(out.Transfers, progress.Transfer{Step: t.Vertex, ID: t.ID, Current: t.Current, Total: t.Total})
	}
	for _, w := range s.Warnings {
		warning := progress.BuildWarning{Step: w.Vertex, Text: string(w.Short)}
		if w.SourceInfo != nil && len(w.Range) > 0 && w.Range[0].Start != nil {
			warning.File, warning.Line = w.SourceInfo.Filename, int(w.Range[0].Start.Line)
		}
		out.Warnings = append(out.Warnings, warning)
	}
	return out
}

// namePart names the platform of each step, as BuildKit does where a build has several.
func namePart(s *progress.BuildStatus, platforms []string) {
	if len(platforms) != 1 {
		return
	}
	for i, v := range s.Steps {
		if rest, ok := strings.CutPrefix(v.Name, "["); ok && (v.Kind == progress.Instruction || v.Kind == progress.BaseStep) {
			s.Steps[i].Name = "[" + platforms[0] + " " + rest
		}
	}
}

// cachedFetches tells a step that was found in a cache from the fetching of its layers, for
// which BuildKit begins it again, under the same digest.
type cachedFetches struct {
	cached, fetching map[digest.Digest]bool
}

func newCachedFetches() *cachedFetches {
	return &cachedFetches{cached: map[digest.Digest]bool{}, fetching: map[digest.Digest]bool{}}
}

// rename changes a status in place: what fetches layers is a step of its own.
func (c *cachedFetches) rename(s *progress.BuildStatus) {
	id := func(d digest.Digest) digest.Digest {
		if c.fetching[d] {
			return digest.FromString("fetch " + d.String())
		}
		return d
	}
	for i := range s.Steps {
		v := &s.Steps[i]
		if v.Cached {
			c.cached[v.ID] = true
			continue
		}
		if c.cached[v.ID] {
			c.fetching[v.ID] = true
			v.ID, v.Name, v.Kind = id(v.ID), "fetch cached layers of "+v.Name, progress.BaseStep
		}
	}
	for i := range s.Transfers {
		s.Transfers[i].Step = id(s.Transfers[i].Step)
	}
	for i := range s.Output {
		s.Output[i].Step = id(s.Output[i].Step)
	}
}
