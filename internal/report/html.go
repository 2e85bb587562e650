package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/format"
)

//go:embed report.css
var reportStyle string

// WriteHTML writes the report as one page that needs nothing else: no network,
// no script. The figures of the picture are in its tables as well.
func (r Report) WriteHTML(w io.Writer) error {
	b := &page{total: max(r.Seconds, 0.001)}
	b.add("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"generator\" content=\"ecsbuild\">\n<title>%s</title>\n<style>\n%s</style>\n</head>\n<body>\n",
		esc("ecsbuild: "+r.Status+", "+r.Began.Format("2006-01-02 15:04 MST")), reportStyle)
	b.add("<header><h1>ecsbuild <span class=\"%s\">%s</span></h1>\n<p>%s · %s · %s sent</p>\n", r.Status, r.Status,
		esc(r.Began.Format("2006-01-02 15:04:05 MST")), format.Duration(Seconds(r.Seconds)), format.Bytes(r.Sent))
	if r.Error != "" {
		b.add("<pre class=\"error\">%s</pre>\n", esc(r.Error))
	}
	b.add("</header>\n<main>\n")
	b.phases(r)
	b.advice(r)
	b.images(r)
	b.timeline(r)
	b.spans(r)
	b.add("</main>\n</body>\n</html>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

type page struct {
	strings.Builder
	total float64 // seconds of the whole run
}

func (b *page) add(format string, args ...any) { fmt.Fprintf(b, format, args...) }

func esc(s string) string { return html.EscapeString(s) }

// share is a part of the run's time, for CSS.
func (b *page) share(seconds float64) string {
	return fmt.Sprintf("%.3f%%", min(100, 100*seconds/b.total))
}

func (b *page) phases(r Report) {
	b.add("<section aria-labelledby=\"phases\">\n<h2 id=\"phases\">Where the time went</h2>\n<div class=\"phases\" aria-hidden=\"true\">")
	for _, p := range r.Phases {
		b.add("<div class=\"%s\" style=\"width:%s\"></div>", p.Name, b.share(p.Seconds))
	}
	b.add("</div>\n<ul class=\"legend\">\n")
	for _, p := range r.Phases {
		b.add("<li><i class=\"%s\"></i>%s %s</li>\n", p.Name, p.Name, format.Duration(Seconds(p.Seconds)))
	}
	b.add("</ul>\n</section>\n")
}

func (b *page) advice(r Report) {
	if len(r.Advice) == 0 {
		return
	}
	b.add("<section aria-labelledby=\"advice\">\n<h2 id=\"advice\">What would make the next build faster</h2>\n<ul>\n")
	for _, a := range r.Advice {
		b.add("<li>%s</li>\n", esc(a))
	}
	b.add("</ul>\n</section>\n")
}

func (b *page) images(r Report) {
	b.add("<section aria-labelledby=\"images\">\n<h2 id=\"images\">Images</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"images\">\n<table>\n<thead><tr><th scope=\"col\">name</th><th scope=\"col\">status</th><th scope=\"col\">what changed</th><th scope=\"col\" class=\"n\">size</th><th scope=\"col\" class=\"n\">sent</th><th scope=\"col\" class=\"n\">time</th><th scope=\"col\">image</th></tr></thead>\n<tbody>\n")
	for _, i := range r.Images {
		size := ""
		if i.Size > 0 {
			size = format.Bytes(i.Size)
		}
		ref := ""
		if i.Image != "" {
			ref = "<code>" + esc(i.Image) + "</code><br><code>" + esc(i.Digest) + "</code>"
		}
		b.add("<tr><th scope=\"row\">%s</th><td class=\"%s\">%s</td><td>%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"ref\">%s</td></tr>\n",
			esc(i.Name), i.Status, i.Status, esc(r.changed(i)), size, format.Bytes(i.Sent), format.Duration(Seconds(i.Seconds)), ref)
	}
	b.add("</tbody>\n</table>\n</div>\n</section>\n")
}

// openImages is how many images' details are open when the page is.
const openImages = 4

func (b *page) timeline(r Report) {
	b.add("<section aria-labelledby=\"timeline\">\n<h2 id=\"timeline\">Timeline</h2>\n<ul class=\"legend\">\n")
	for _, k := range []struct {
		kind Kind
		text string
	}{{Base, "base image, cached layers"}, {Step, "step"},
		{Push, "engine compresses and pushes"}, {Upload, "upload"}, {Prepare, "prepare, look for changes"}, {Tags, "tags"}, {Cache, "cache"}} {
		b.add("<li><i class=\"%s\"></i>%s</li>\n", k.kind, k.text)
	}
	b.add("<li><i class=\"critical\"></i>outlined: the run waited for it</li>\n</ul>\n")
	by := map[string][]Span{}
	for _, s := range r.Spans {
		if !s.Cached && !s.Internal {
			by[s.Image] = append(by[s.Image], s)
		}
	}
	names := []string{""}
	for _, i := range r.Images {
		names = append(names, i.Name)
	}
	for _, name := range names {
		open := ""
		if len(r.Images) <= openImages {
			open = " open"
		}
		b.add("<details%s>\n<summary><span class=\"name\">%s</span><span class=\"track\" aria-hidden=\"true\">", open,
			esc(cmp.Or(name, "run")))
		for _, s := range by[name] {
			b.bar(s)
		}
		b.add("</span></summary>\n<ol>\n")
		for _, s := range by[name] {
			critical := ""
			if s.Critical {
				critical = " <b>waited for</b>"
			}
			b.add("<li><span class=\"label\">%s <small>%s%s</small></span><span class=\"track\" aria-hidden=\"true\">",
				esc(s.label()), format.Duration(Seconds(s.Seconds)), critical)
			b.bar(s)
			b.add("</span></li>\n")
		}
		b.add("</ol>\n</details>\n")
	}
	b.add("<p class=\"axis\" aria-hidden=\"true\"><span>0 s</span><span>%s</span><span>%s</span></p>\n</section>\n",
		format.Duration(Seconds(r.Seconds/2)), format.Duration(Seconds(r.Seconds)))
}

func (b *page) bar(s Span) {
	class := string(s.Kind)
	if s.Critical {
		class += " critical"
	}
	if s.Error != "" {
		class += " failed"
	}
	b.add("<i class=\"%s\" style=\"left:%s;width:%s\" title=\"%s\"></i>", class, b.share(s.Start), b.share(s.Seconds),
		esc(s.label()+": "+format.Duration(Seconds(s.Seconds))))
}

// spans is the picture for those who do not see it.
func (b *page) spans(r Report) {
	b.add("<section aria-labelledby=\"spans\">\n<h2 id=\"spans\">Everything, as a table</h2>\n<details>\n<summary>%d entries</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"spans\">\n<table>\n<thead><tr><th scope=\"col\">image</th><th scope=\"col\">kind</th><th scope=\"col\">what</th><th scope=\"col\" class=\"n\">from</th><th scope=\"col\" class=\"n\">took</th><th scope=\"col\" class=\"n\">bytes</th><th scope=\"col\">notes</th></tr></thead>\n<tbody>\n", len(r.Spans))
	for _, s := range r.Spans {
		size := ""
		if s.Bytes > 0 {
			size = format.Bytes(s.Bytes)
		}
		notes := slices.DeleteFunc([]string{map[bool]string{true: "cached"}[s.Cached],
			map[bool]string{true: "the run waited for it"}[s.Critical], s.Error}, func(s string) bool { return s == "" })
		b.add("<tr><td>%s</td><td>%s</td><td>%s</td><td class=\"n\">%.2f s</td><td class=\"n\">%.2f s</td><td class=\"n\">%s</td><td>%s</td></tr>\n",
			esc(cmp.Or(s.Image, "run")), s.Kind, esc(s.Name), s.Start, s.Seconds, size, esc(strings.Join(notes, "; ")))
	}
	b.add("</tbody>\n</table>\n</div>\n</details>\n</section>\n")
}
