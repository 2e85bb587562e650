package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/diagnose"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// engines checks the engine, or each of several builders and then what they are as one.
func (p Options) engines(ctx context.Context) (out []Check) {
	if p.NoEngine != nil {
		return []Check{p.failed("engine", p.NoEngine)}
	}
	groups := make([][]Check, len(p.Engines))
	var wg sync.WaitGroup
	for i, open := range p.Engines {
		wg.Go(func() { groups[i] = p.engine(ctx, open) })
	}
	wg.Wait()
	for _, g := range groups {
		out = append(out, g...)
	}
	if len(p.Engines) == 1 {
		return out
	}
	for i := range out { // a run does without one of them
		if out[i].Verdict == Failure {
			out[i].Verdict = Warning
		}
	}
	e, err := p.Fleet(ctx)
	if err != nil {
		return append(out, p.failed("builders", err))
	}
	defer e.Close()
	return append(out, p.images(e)...)
}

// engine checks an engine, and what images ask of it where it is the only one.
func (p Options) engine(ctx context.Context, open Connect) []Check {
	text := ""
	e, err := open(ctx, func(_ progress.Severity, why string) { text = "; " + why })
	if err != nil {
		return []Check{p.failed("engine", err)}
	}
	defer e.Close()
	out := []Check{{Name: "engine", Verdict: OK, Text: e.String() + " at " + e.Endpoint.String() + text}}
	if len(p.Engines) > 1 {
		return out
	}
	if e.IsRemote() && e.Store == builder.Classic {
		out = append(out, Check{Name: "push", Verdict: NotChecked,
			Text: "the engine is on another host: it pushes through a container of ecsbuild on its host's network; " +
				"no private engine can start there, so for several platforms and caches in a registry use a buildkitd, " +
				"or one job per platform"})
	}
	out = append(out, p.images(e)...)
	out = append(out, proxies(e))
	switch free, ok := e.FreeDisk(); {
	case !ok:
		out = append(out, Check{Name: "disk", Verdict: NotChecked, Text: "the engine's disk is not on this machine"})
	case free < builder.LowDisk:
		out = append(out, Check{Name: "disk", Verdict: Warning,
			Text: fmt.Sprintf("%.1f GB are free where the engine keeps its images",
				float64(free)/1e9), Found: []diagnose.Finding{{Do: []string{"make room:", "  docker system prune"}}}})
	default:
		out = append(out, Check{Name: "disk", Verdict: OK, Text: fmt.Sprintf("%.0f GB are free", float64(free)/1e9)})
	}
	return out
}

// images says what images ask for that an engine cannot do, or not quite.
func (p Options) images(e pipeline.Engine) (out []Check) {
	for _, img := range p.Plan.Images {
		var notes []string
		err := e.Check(img, func(text string) { notes = append(notes, text) })
		switch {
		case err != nil:
			out = append(out, p.failed("image "+img.Name(), err))
		case len(notes) > 0:
			out = append(out, Check{Name: "image " + img.Name(), Verdict: Warning, Text: strings.Join(notes, "; ")})
		}
	}
	return out
}

// proxies says which ones the steps of a build get.
func proxies(e *builder.Engine) Check {
	c := Check{Name: "proxy", Verdict: OK, Text: "docker's config.json has none for the steps of a build"}
	var args []string
	for _, name := range slices.Sorted(maps.Keys(e.Proxies())) {
		args = append(args, name+"="+e.Proxies()[name])
	}
	if len(args) > 0 {
		c.Text = "the steps of a build get " + strings.Join(args, ", ") + ", from proxies in docker's config.json"
	}
	return c
}
