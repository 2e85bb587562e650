// Package advice says what would make the next build of an image faster, from what this one
// has measured. It guesses nothing: where it names seconds, steps of this run took them.
package advice

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// An Advice is what could be done, and what not having done it has cost.
type Advice struct {
	Image string
	Text  string
	Took  time.Duration // that would be spared, at most
}

const (
	// maxAdvice is how many pieces of advice a run gives.
	maxAdvice = 3
	// worthwhile is what is not worth a line.
	worthwhile = 2 * time.Second
)

// A Build is an image that was built.
type Build struct {
	Image plan.Image
	Steps []progress.BuildStep // in the order in which they began
}

// For looks at the builds of a run: three pieces of advice at most, those that spare most first.
func For(builds []Build) (out []Advice) {
	for _, b := range builds {
		for _, find := range []func(Build) (Advice, bool){unlinkedCopy, copyBeforeInstall, noCache} {
			if a, ok := find(b); ok && a.Took >= worthwhile {
				a.Image = b.Image.Name()
				out = append(out, a)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Advice) int { return int(b.Took - a.Took) })
	return out[:min(len(out), maxAdvice)]
}

// took is how long a step ran, 0 for one that did not.
func took(s progress.BuildStep) time.Duration {
	if s.Cached || s.Error != "" || s.Started == nil || s.Completed == nil {
		return 0
	}
	return s.Completed.Sub(*s.Started)
}

// busy is how long at least one of the steps that keep accepts ran: stages run side by side.
func busy(steps []progress.BuildStep, keep func(progress.BuildStep) bool) (sum time.Duration) {
	var until time.Time
	for _, s := range steps { // in the order in which they began
		if took(s) == 0 || !keep(s) || !s.Completed.After(until) {
			continue
		}
		from := *s.Started
		if from.Before(until) {
			from = until
		}
		sum, until = sum+s.Completed.Sub(from), *s.Completed
	}
	return sum
}

// instruction is a step's name: "[stage 2/4] RUN make", in its three parts.
var instruction = regexp.MustCompile(`^\[(?:([^\]]*) )?([0-9]+)/[0-9]+\] (.*)$`)

// A step is an instruction of a stage.
type step struct {
	stage, text string
	cached      bool
	took        time.Duration
}

func steps(b Build) (out []step) {
	for _, s := range b.Steps {
		m := instruction.FindStringSubmatch(s.Name)
		if s.Kind != progress.Instruction || m == nil {
			continue
		}
		out = append(out, step{m[1], m[3], s.Cached, took(s)})
	}
	return out
}

func (s step) isCopy() bool {
	return strings.HasPrefix(s.text, "COPY ") || strings.HasPrefix(s.text, "ADD ")
}
func (s step) linked() bool {
	fields := strings.Fields(s.text)
	return slices.Contains(fields, "--link") || slices.Contains(fields, "--link=true")
}

// fetched is how the steps are called that fetch what was found in a cache.
const fetched = "fetch cached layers of "

// unlinkedCopy finds copies for which everything below them was fetched, and nothing else was.
func unlinkedCopy(b Build) (a Advice, ok bool) {
	first := ""
	for _, s := range steps(b) {
		if s.cached {
			continue
		}
		if !s.isCopy() || s.linked() {
			return a, false // that needs the files, whatever is done about a copy
		}
		if first == "" {
			first = s.text
		}
	}
	a.Took = busy(b.Steps, func(s progress.BuildStep) bool { return strings.HasPrefix(s.Name, fetched) })
	a.Text = fmt.Sprintf("%s without --link made this build fetch and unpack the layers below it: %s. COPY --link needs none of them",
		shorten(first), format.Duration(a.Took))
	return a, first != ""
}

// install finds commands that fetch dependencies, which their lock files decide alone.
var install = regexp.MustCompile(`\b(npm (ci|i|install)|yarn install|pnpm (i|install)|pip3? install|composer install|bundle install|go mod download|cargo fetch|poetry install|uv sync|dotnet restore)\b`)

// copyBeforeInstall finds dependencies that were fetched again since a copy before them had changed.
func copyBeforeInstall(b Build) (a Advice, ok bool) {
	changed, reached := map[string]string{}, map[string]bool{} // by stage: the copy that had changed; something was cached
	for _, s := range steps(b) {
		switch {
		case s.cached:
			reached[s.stage] = true
		case s.isCopy() && changed[s.stage] == "":
			changed[s.stage] = s.text
		case changed[s.stage] == "":
			changed[s.stage] = "?" // something else had changed before any copy
		case strings.HasPrefix(s.text, "RUN ") && install.MatchString(s.text) && reached[s.stage] &&
			broad(changed[s.stage]) && s.took > a.Took:
			a.Took, ok = s.took, true
			a.Text = fmt.Sprintf("%s ran again because %s comes before it: %s. Copy the files that it reads first, and the rest after it",
				shorten(s.text), shorten(changed[s.stage]), format.Duration(s.took))
		}
	}
	return a, ok
}

// broad says whether a copy takes a folder, and not some named files.
func broad(text string) bool {
	fields := strings.Fields(text)
	if len(fields) < 3 || fields[0] != "COPY" && fields[0] != "ADD" || strings.Contains(text, "--from=") {
		return false
	}
	for _, f := range fields[1 : len(fields)-1] {
		if f == "." || f == "./" || f == "/" {
			return true
		}
	}
	return false
}

// noCache finds an image of a host that had built nothing of it, where no cache is asked for.
func noCache(b Build) (a Advice, ok bool) {
	if b.Image.Build.Cache != "" || len(b.Image.Build.CacheFrom) > 0 || b.Image.Build.NoCache || b.Image.MaxAge > 0 {
		return a, false
	}
	for _, s := range steps(b) {
		if s.cached {
			return a, false
		}
	}
	a.Took = busy(b.Steps, func(s progress.BuildStep) bool { return s.Kind == progress.Instruction })
	a.Text = fmt.Sprintf("nothing was cached here, and the steps took %s. With a build cache (cache: registry, local or inline) the next host runs only those whose inputs have changed",
		format.Duration(a.Took))
	return a, true
}

// maxText bounds an instruction in a line, in characters.
const maxText = 60

func shorten(text string) string {
	if runes := []rune(text); len(runes) > maxText {
		return string(runes[:maxText-1]) + "…"
	}
	return text
}
