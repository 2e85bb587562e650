package builder

import (
	"strings"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/progress"
)

func TestParseStep(t *testing.T) {
	pin := "@sha256:" + strings.Repeat("1", 64)
	for name, want := range map[string]step{
		"[internal] load build definition from Dockerfile":                      {kind: progress.InternalStep},
		"[internal] load metadata for docker.io/library/c:1":                    {kind: progress.InternalStep},
		"resolve image config for docker-image://docker.io/docker/dockerfile:1": {},
		"docker-image://docker.io/docker/dockerfile:1" +
			pin: {frontend: "docker.io/docker/dockerfile:1" + pin},
		"[1/4] FROM docker.io/library/php:8.4-fpm" + pin: {kind: progress.BaseStep,
			base: "docker.io/library/php:8.4-fpm" + pin},
		"[base 1/2] FROM docker.io/library/a:1": {kind: progress.BaseStep,
			base: "docker.io/library/a:1"},
		"[linux/arm64 base 1/2] FROM docker.io/library/a:1" + pin: {kind: progress.BaseStep,
			base: "docker.io/library/a:1" + pin, platform: "linux/arm64"},
		"[linux/arm/v7 2/2] RUN make": {kind: progress.Instruction,
			platform: "linux/arm/v7"},
		// 20.10 calls it so
		"FROM docker.io/library/c:1" + pin:                         {base: "docker.io/library/c:1" + pin},
		"[2/4] RUN composer install":                               {kind: progress.Instruction},
		"[stage-0 3/3] RUN curl https://example.com":               {kind: progress.Instruction}, // as any RUN
		"[stage-0 2/3] ADD http://example.com/x /x":                {kind: progress.Instruction, fetches: true},
		"[stage-0 2/3] ONBUILD ADD http://example.com/x /x":        {kind: progress.Instruction, fetches: true},
		"[stage-0 2/3] ADD git@example.com:a/b.git /x":             {kind: progress.Instruction, fetches: true},
		"[stage-0 2/3] ADD a.tar /x":                               {kind: progress.Instruction},
		"[stage-0 2/3] COPY --from=x /x /x":                        {kind: progress.Instruction},
		"[stage-0 2/3] ONBUILD COPY . /x":                          {kind: progress.Instruction},
		"https://example.com/x":                                    {fetches: true},
		"importing cache manifest from registry.example/app:cache": {importsCache: "registry.example/app:cache"},
		"exporting cache to registry":                              {exportsCache: true},
		"exporting to oci image format":                            {exports: true},
		"exporting to image":                                       {exports: true},
	} {
		if got := parseStep(name); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

// TestCachedFetches: a cached step that begins again fetches its layers, and did not run.
func TestCachedFetches(t *testing.T) {
	now := time.Now()
	c := newCachedFetches()
	status := func(cached bool) *progress.BuildStatus {
		s := &progress.BuildStatus{Steps: []progress.BuildStep{{ID: "sha256:a", Name: "[2/2] RUN make", Kind: progress.Instruction,
			Started: &now, Cached: cached}}, Transfers: []progress.Transfer{{Step: "sha256:a", ID: "layer"}}}
		c.rename(s)
		return s
	}
	if s := status(true); s.Steps[0].Name != "[2/2] RUN make" || s.Transfers[0].Step != "sha256:a" {
		t.Errorf("%+v", s)
	}
	s := status(false)
	if v := s.Steps[0]; v.Name != "fetch cached layers of [2/2] RUN make" || v.ID == "sha256:a" ||
		v.Kind != progress.BaseStep || s.Transfers[0].Step != v.ID {
		t.Errorf("%+v", s)
	}
}
