package advice

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// ran is a step that took some seconds, cached one that took none.
func ran(name string, seconds float64) progress.BuildStep {
	began := time.Unix(1000, 0)
	ended := began.Add(time.Duration(seconds * float64(time.Second)))
	s := progress.BuildStep{Name: name, Kind: progress.Instruction, Started: &began, Completed: &ended}
	if strings.HasPrefix(name, fetched) || strings.Contains(name, "] FROM ") {
		s.Kind = progress.BaseStep
	}
	return s
}

// at is a step that began some seconds later.
func at(seconds int, s progress.BuildStep) progress.BuildStep {
	began, ended := s.Started.Add(time.Duration(seconds)*time.Second), s.Completed.Add(time.Duration(seconds)*time.Second)
	s.Started, s.Completed = &began, &ended
	return s
}

func cached(name string) progress.BuildStep {
	s := ran(name, 0)
	s.Cached = true
	return s
}

func TestFor(t *testing.T) {
	withCache := plan.Build{Cache: plan.CacheRegistry}
	for name, tt := range map[string]struct {
		build plan.Build
		steps []progress.BuildStep
		want  []string // the beginnings
	}{
		"nothing ran": {withCache, []progress.BuildStep{cached("[2/3] COPY . .")}, nil},
		"a copy without link": {withCache, []progress.BuildStep{cached("[2/4] RUN npm ci"), ran(fetched+"[2/4] RUN npm ci", 4.1),
			ran("[3/4] COPY src /src", 0.2)}, []string{"COPY src /src without --link made this build fetch and unpack the layers below it: 4.1 s."}},
		"a linked copy": {withCache, []progress.BuildStep{cached("[2/4] RUN npm ci"), ran(fetched+"[2/4] RUN npm ci", 4.1),
			ran("[3/4] COPY --link src /src", 0.2)}, nil},
		"a copy, and a step that needs the files": {withCache, []progress.BuildStep{ran(fetched+"[2/4] RUN npm ci", 4.1),
			ran("[3/4] COPY src /src", 0.2), ran("[4/4] RUN make", 1)}, nil},
		"a copy of little": {withCache, []progress.BuildStep{ran(fetched+"[2/4] RUN npm ci", 1), ran("[3/4] COPY src /src", 0.2)}, nil},
		"an install after a copy of everything": {withCache, []progress.BuildStep{cached("[build 2/5] WORKDIR /app"),
			ran("[build 3/5] COPY . .", 0.3), ran("[build 4/5] RUN npm ci", 38), ran("[build 5/5] RUN npm run build", 60)},
			[]string{"RUN npm ci ran again because COPY . . comes before it: 38.0 s."}},
		"an install after a copy of its lock file": {withCache, []progress.BuildStep{cached("[2/5] WORKDIR /app"),
			ran("[3/5] COPY package.json package-lock.json ./", 0.3), ran("[4/5] RUN npm ci", 38)}, nil},
		"an install after a copy of another stage's files": {withCache, []progress.BuildStep{cached("[2/5] WORKDIR /app"),
			ran("[3/5] COPY --from=a . .", 0.3), ran("[4/5] RUN npm ci", 38)}, nil},
		"an install on a new host": {withCache, []progress.BuildStep{ran("[2/5] WORKDIR /app", 0.1),
			ran("[3/5] COPY . .", 0.3), ran("[4/5] RUN npm ci", 38)}, nil},
		"another stage was cached": {withCache, []progress.BuildStep{cached("[a 2/2] WORKDIR /app"),
			ran("[b 2/3] COPY . .", 0.3), ran("[b 3/3] RUN npm ci", 38)}, nil},
		"a new host without a cache": {plan.Build{}, []progress.BuildStep{ran("[1/3] FROM base", 9), at(9, ran("[2/3] RUN make", 50)),
			at(59, ran("[3/3] COPY a b", 2))}, []string{"nothing was cached here, and the steps took 52.0 s."}},
		"stages side by side": {plan.Build{}, []progress.BuildStep{ran("[a 2/2] RUN make", 20), ran("[b 2/2] RUN make", 10),
			at(15, ran("[c 2/2] RUN make", 20)), at(50, ran("[3/3] COPY a b", 2))}, []string{"nothing was cached here, and the steps took 37.0 s."}},
		"a host that knows it":  {plan.Build{}, []progress.BuildStep{cached("[2/3] RUN make"), ran("[3/3] RUN make test", 50)}, nil},
		"another cache":         {plan.Build{CacheFrom: []string{"x"}}, []progress.BuildStep{ran("[2/3] RUN make", 50)}, nil},
		"no cache is asked for": {plan.Build{NoCache: true}, []progress.BuildStep{ran("[2/3] RUN make", 50)}, nil},
	} {
		var got []string
		for _, a := range For([]Build{{plan.Image{Containers: []string{"web"}, Build: tt.build}, tt.steps}}) {
			sentence := regexp.MustCompile(`^.* s\.`).FindString(a.Text)
			got = append(got, sentence)
			if a.Image != "web" {
				t.Errorf("%s: of %q", name, a.Image)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestMost gives three, the ones that spare most.
func TestMost(t *testing.T) {
	var builds []Build
	for i, seconds := range []float64{3, 9, 5, 7} {
		builds = append(builds, Build{plan.Image{Containers: []string{string(rune('a' + i))}},
			[]progress.BuildStep{ran("[2/2] RUN make", seconds)}})
	}
	var got []string
	for _, a := range For(builds) {
		got = append(got, a.Image)
	}
	if diff := cmp.Diff([]string{"b", "d", "c"}, got); diff != "" {
		t.Error(diff)
	}
	if got := shorten(strings.Repeat("ä", 100)); len([]rune(got)) != maxText {
		t.Errorf("%q", got)
	}
}
