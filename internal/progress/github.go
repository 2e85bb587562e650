package progress

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// github writes a job's log for GitHub Actions: what happens as it happens, and
// the output of an image's steps in a group when the image is through, so that
// one image's lines lie together. Lines of a build begin with the image's name,
// so that none of them is a command to the runner.
// https://docs.github.com/actions/reference/workflow-commands-for-github-actions
type github struct {
	*plain
	shown       map[string]bool
	dockerfiles map[string]string
}

func newGitHub(out Output, images []string) *github {
	g := &github{plain: newPlain(out.W, images), shown: map[string]bool{}, dockerfiles: out.Dockerfiles}
	g.text = format.InertInline
	return g
}

func (g *github) draw(r *Run, e event) {
	if e.state != "" {
		g.group(r, e.image)
	}
	if e.warns {
		_, _ = fmt.Fprintln(g.w, Annotation("warning", Place{}, title(e.image), e.note))
		g.wrote = time.Now()
		return
	}
	if e.note != "" && e.state != report.Failed {
		g.line(e.image, e.note)
	}
	if e.status == nil {
		return
	}
	g.status(r, e, e.image == "") // a gate is of no image
	for _, w := range e.status.Warnings {
		if r.mine(e.image, w.Step) {
			_, _ = fmt.Fprintln(g.w, Annotation("warning", g.place(e.image, w), title(e.image), w.Text))
		}
	}
}

func title(image string) string {
	if image == "" {
		return "ecsbuild"
	}
	return "ecsbuild: " + image
}

// place finds the Dockerfile, which BuildKit knows without its folder.
func (g *github) place(image string, w BuildWarning) Place {
	p := Place{File: w.File, Line: w.Line}
	if file := g.dockerfiles[image]; p.File != "" && filepath.Base(file) == p.File {
		p.File = file
	}
	return p
}

// group writes an image's log so far, folded.
func (g *github) group(r *Run, image string) {
	log := g.log(image)
	if g.shown[image] || len(log.lines) == 0 {
		return
	}
	g.shown[image] = true
	i := r.image(image)
	_, _ = fmt.Fprintf(g.w, "::group::%s: %s\n", escapeData(format.Clean(image)), i.state)
	for _, text := range log.all() {
		g.line(image, text)
	}
	_, _ = fmt.Fprintln(g.w, "::endgroup::")
}

func (g *github) close(r *Run) {
	for _, i := range r.images {
		g.group(r, i.name)
	}
}

// A Place in a file that an annotation shows.
type Place struct {
	File string // "" for none
	Line int    // from 1, 0 for none
}

// Annotation is a line that GitHub shows beside the job: kind is error, warning
// or notice.
func Annotation(kind string, p Place, title, text string) string {
	var props []string
	if p.File != "" {
		props = append(props, "file="+escapeProperty(p.File))
		if p.Line > 0 {
			props = append(props, fmt.Sprintf("line=%d", p.Line))
		}
	}
	if title != "" {
		props = append(props, "title="+escapeProperty(title))
	}
	head := kind
	if len(props) > 0 {
		head += " " + strings.Join(props, ",")
	}
	var lines []string
	for l := range strings.Lines(text) {
		lines = append(lines, format.Clean(l))
	}
	return "::" + head + "::" + escapeData(strings.Join(lines, "\n"))
}

func escapeData(s string) string {
	return strings.NewReplacer("##[", "## [", "%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func escapeProperty(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(escapeData(s))
}
