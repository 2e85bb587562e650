package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// results is what results.json holds.
type results struct {
	Commit  string            `json:"commit"` // that ecsbuild was built from
	Began   string            `json:"began"`
	Cores   int               `json:"cores"`
	Load    string            `json:"load_at_start"` // averages of one and five minutes
	Clients map[string]string `json:"clients"`       // docker client of each engine
	Samples []sample          `json:"samples"`
}

func (r *results) note(ctx context.Context, kind, docker string) {
	out, _ := exec.CommandContext(ctx, docker, "--version").Output()
	if r.Clients == nil {
		r.Clients = map[string]string{}
	}
	r.Clients[kind] = strings.TrimSpace(string(out))
}

// add takes in what another run has measured.
func (r *results) add(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var other results
	if err := json.Unmarshal(data, &other); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	join := func(a *string, b string) {
		if *a != "" && *a != b {
			b = *a + " and " + b
		}
		*a = b
	}
	join(&r.Commit, other.Commit)
	join(&r.Began, other.Began)
	join(&r.Load, other.Load)
	r.Cores = other.Cores
	if r.Clients == nil {
		r.Clients = map[string]string{}
	}
	for engine, client := range other.Clients {
		r.Clients[engine] = client
	}
	r.Samples = append(r.Samples, other.Samples...)
	return nil
}

// of returns the runs of one way through one case.
func (r *results) of(engine, name, way string) (out []sample) {
	for _, s := range r.Samples {
		if s.Engine == engine && s.Case == name && s.Way == way {
			out = append(out, s)
		}
	}
	return out
}

// median returns the sample whose time is the median, and whether the way
// works: one failure is a failure.
func median(all []sample) (s sample, ok bool) {
	for _, one := range all {
		if one.Failed != "" {
			return one, false
		}
	}
	if len(all) == 0 {
		return sample{}, false
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b sample) int {
		if a.Seconds < b.Seconds {
			return -1
		}
		return 1
	})
	return all[len(all)/2], true
}

func (r *results) engines() (out []string) {
	for _, s := range r.Samples {
		if !slices.Contains(out, s.Engine) {
			out = append(out, s.Engine)
		}
	}
	return out
}

// cells are one row's: of each way the seconds, then the ratios, then what
// was sent.
func (r *results) cells(engine, name string) []string {
	var seconds, sent, requests []string
	times := map[string]float64{}
	for _, w := range ways {
		of := name
		if a, ok := asks[name]; ok && !slices.Contains(a.ways, w.name) {
			of = a.beside
		}
		s, ok := median(r.of(engine, of, w.name))
		switch {
		case ok:
			times[w.name] = s.Seconds
			seconds = append(seconds, fmt.Sprintf("%.1f", s.Seconds))
		case s.Failed != "":
			seconds = append(seconds, "fails")
		default:
			seconds = append(seconds, "–")
		}
		if !w.pushes {
			continue
		}
		mb, n := "–", "–"
		if ok {
			mb, n = fmt.Sprintf("%.0f", float64(s.Sent)/1e6), fmt.Sprint(s.Requests)
		}
		sent, requests = append(sent, mb), append(requests, n)
	}
	ratio := func(a, b string) string {
		if times[a] == 0 || times[b] == 0 {
			return "–"
		}
		return fmt.Sprintf("%.2f", times[a]/times[b])
	}
	return append(append([]string{cmp.Or(titles[name], name)}, seconds...), ratio("shell", "ecsbuild"),
		ratio("bake", "ecsbuild"),
		ratio("ecsbuild", "bare"), strings.Join(sent, " / "), strings.Join(requests, " / "))
}

// markdown is the whole report.
func (r *results) markdown() string {
	var b strings.Builder
	runs := 0
	for _, s := range r.Samples {
		runs = max(runs, s.Run)
	}
	fmt.Fprintf(&b, "ecsbuild at %s, %s, %d cores, load %s at the start; median of %d. Seconds; MB and requests to ECR as shell / bake / ecsbuild.\n", r.Commit, r.Began, r.Cores, r.Load, runs)
	for _, engine := range r.engines() {
		fmt.Fprintf(&b, "\n### %s\n\nThe shell's client: %s.\n\n", cmp.Or(engineTitles[engine], engine), r.Clients[engine])
		b.WriteString("| case | shell | bake | ecsbuild | bare | shell/ecsbuild | bake/ecsbuild | ecsbuild/bare | MB sent | requests |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
		for _, name := range allCases {
			if len(r.of(engine, name, "ecsbuild")) > 0 && name != "hundred" {
				fmt.Fprintf(&b, "| %s |\n", strings.Join(r.cells(engine, name), " | "))
			}
		}
		if s, ok := median(r.of(engine, "hundred", "ecsbuild")); ok {
			fmt.Fprintf(&b, "\n100 images: %.1f s, %.0f MB of memory at most, at most %d PutImage in a second, %d requests.\n",
				s.Seconds, float64(s.Peak)/1e6, s.Puts, s.Requests)
		}
		for _, name := range onRequest {
			if s, ok := median(r.of(engine, name, "ecsbuild")); ok {
				fmt.Fprintf(&b, "\nA layer of 4 GB (%s): %.1f s, %.0f MB of memory at most.\n", name, s.Seconds,
					float64(s.Peak)/1e6)
			}
		}
		for _, s := range r.failures(engine) {
			fmt.Fprintf(&b, "\n%s fails at %s: `%s`\n", s.Way, s.Case, s.Failed)
		}
	}
	return b.String()
}

// failures returns the first one of each way.
func (r *results) failures(engine string) (out []sample) {
	for _, s := range r.Samples {
		if s.Engine == engine && s.Failed != "" &&
			!slices.ContainsFunc(out, func(o sample) bool { return o.Way == s.Way && o.Failed == s.Failed }) {
			out = append(out, s)
		}
	}
	return out
}

func (r *results) write(dir string) (markdown string, err error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", err
	}
	markdown = r.markdown()
	for name, content := range map[string][]byte{"results.json": append(data, '\n'), "results.md": []byte(markdown),
		"chart.svg": []byte(r.chart())} {
		if err := write(filepath.Join(dir, name), content); err != nil {
			return "", err
		}
	}
	return markdown, nil
}
