package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestImageContexts reads files whose images are built on each other.
func TestImageContexts(t *testing.T) {
	const app, web = "{container: app, repository: one",
		"{container: web, repository: two, additional_contexts: {base: 'service:app'}"
	file := func(images ...string) string {
		return "images:\n  - " + strings.Join(images, "}\n  - ") + "}\n"
	}
	for name, tt := range map[string]struct{ file, want string }{
		"on another": {file(web, app), "web map[base:app] map[] false; app map[] map[] false; "},
		"by its name": {file(app, "{repository: two, additional_contexts: ['x=service:app', 'y=docker-image://z']"),
			"app map[] map[] false; two map[x:app] map[y:docker-image://z] false; "},
		"by a repository": {file("{repository: base", "{repository: two, additional_contexts: {base: 'service:base'}"),
			"base map[] map[] false; two map[base:base] map[] false; "},
		"by a container": {file("{containers: [app, worker], repository: one",
			strings.Replace(web, "service:app", "service:worker", 1)), "app map[] map[] false; web map[base:app] map[] false; "},
		"without a cache": {file(web, "{container: proxy, repository: three, additional_contexts: {web: 'service:web'}",
			app+", no_cache: true"),
			"web map[base:app] map[] true; proxy map[web:web] map[] true; app map[] map[] true; "},
		"the same platforms": {file(app+", platforms: [linux/amd64, linux/arm64]", web+", platforms: [linux/arm64]"),
			"app map[] map[] false; web map[base:app] map[] false; "},

		"nobody": {file(app, strings.Replace(web, "app", "ap", 1)),
			"additional_contexts: service:ap is no image of this file; did you mean \"app\"? the images are app, web"},
		"itself": {file(strings.Replace(web, "app", "web", 1)), "additional_contexts: web would be built on itself"},
		"each other": {file(web, app+", additional_contexts: {b: 'service:web'}"),
			"images are built on each other: web is built on app is built on web; take a service:… out of additional_contexts of one of them"},
		"two have it": {file("{container: app, repository: one", "{container: app, repository: three", web) +
			"definitions: []\n", "additional_contexts: service:app may be one or three; name one of them"},
		"reuse": {file(app, web+", reuse: true"),
			"reuse, where web is built on app: an image that is not built is not there for the other one; leave reuse out of both"},
		"reuse below": {file(app+", reuse: true", web), "reuse, where web is built on app"},
		"other platforms": {file(app+", platforms: [linux/amd64]", web+", platforms: [linux/arm64]"),
			"web is built on app, and for other platforms: linux/arm64, and linux/amd64; give them the same platforms"},
		"the engine's": {file(app+", platforms: [linux/arm64]", web),
			"web is built on app, and for other platforms: that of the engine, and linux/arm64"},
	} {
		p, err := loadIn(t, tt.file, "IMAGE_TAG=v1")
		got := fmt.Sprint(err)
		if err == nil {
			got = ""
			for _, img := range p.Images {
				got += fmt.Sprintln(img.Name(), img.Build.ImageContexts, img.Build.AdditionalContexts, img.Build.NoCache)
			}
			got = strings.ReplaceAll(got, "\n", "; ")
			if got != tt.want {
				t.Errorf("%s: %s", name, got)
			}
		} else if !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
