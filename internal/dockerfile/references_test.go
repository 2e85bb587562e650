package dockerfile

import (
	"strings"
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// TestExternal reads Dockerfiles for the images that they take something from;
// where that cannot be known the answer is "unknown".
func TestExternal(t *testing.T) {
	pin := "@sha256:" + strings.Repeat("0", 64)
	for _, tt := range []struct {
		name, dockerfile string
		build            plan.Build
		want             string
	}{
		{"scratch", "FROM scratch\n", plan.Build{}, ""},
		{"a tag is latest", "FROM alpine\n", plan.Build{}, "docker.io/library/alpine:latest"},
		{"stages", "FROM a AS x\nFROM x\nCOPY --from=x /f /\nCOPY --from=0 /f /\n", plan.Build{},
			"docker.io/library/a:latest"},
		{"copied from", "FROM scratch\nCOPY --from=ghcr.io/o/tool:1 /t /\n", plan.Build{}, "ghcr.io/o/tool:1"},
		{"mounted from", "FROM scratch\nRUN --mount=type=bind,from=tool:2,target=/t true\n", plan.Build{},
			"docker.io/library/tool:2"},
		{"pinned", "FROM alpine" + pin + "\n", plan.Build{}, ""},
		{"a variable's default", "ARG V=3\nFROM alpine:$V\n", plan.Build{}, "docker.io/library/alpine:3"},
		{"a variable of another", "ARG V=3\nARG W=${V}.1\nFROM alpine:${W}\n", plan.Build{}, "docker.io/library/alpine:3.1"},
		{"a variable's value", "ARG V=3\nFROM alpine:$V\n", plan.Build{Args: map[string]string{"V": "4"}},
			"docker.io/library/alpine:4"},
		{"a variable that names a stage", "ARG S=x\nFROM a AS x\nFROM $S\n", plan.Build{}, "docker.io/library/a:latest"},
		{"a variable without value", "ARG V\nFROM alpine:$V\n", plan.Build{}, "unknown"},
		{"a variable of the platform", "FROM alpine:$TARGETARCH\n", plan.Build{}, "unknown"},
		{"the usual syntax", "# syntax=docker/dockerfile:1\nFROM scratch\n", plan.Build{}, "docker.io/docker/dockerfile:1"},
		{"an old syntax", "# syntax=docker/dockerfile:1.0\nFROM scratch\n", plan.Build{}, "unknown"},
		{"an exact syntax", "# syntax=docker/dockerfile:1.7.1-labs\nFROM scratch\n", plan.Build{},
			"docker.io/docker/dockerfile:1.7.1-labs"},
		{"a syntax that is an argument", "FROM scratch\n",
			plan.Build{Args: map[string]string{"BUILDKIT_SYNTAX": "acme/frontend"}}, "unknown"},
		{"another syntax", "# syntax=acme/frontend\nFROM scratch\n", plan.Build{}, "unknown"},
		{"added from the context", "FROM scratch\nADD a.tar /\n", plan.Build{}, ""},
		{"fetched", "FROM scratch\nADD https://example.com/a /\n", plan.Build{}, "unknown"},
		{"fetched from git", "FROM scratch\nADD git@github.com:o/r.git /\n", plan.Build{}, "unknown"},
		{"fetched from git by another user", "FROM scratch\nADD deploy@example.com:o/r.git /\n", plan.Build{}, "unknown"},
		{"perhaps fetched", "FROM scratch\nARG U\nADD $U /\n", plan.Build{}, "unknown"},
		{"a context of another name", "FROM base\n", plan.Build{AdditionalContexts: map[string]string{"base": "/here"}}, ""},
		{"a context that is an image", "FROM base\n",
			plan.Build{AdditionalContexts: map[string]string{"base": "docker-image://alpine:3"}}, "docker.io/library/alpine:3"},
		{"a context that is fetched", "FROM base\n",
			plan.Build{AdditionalContexts: map[string]string{"base": "https://example.com/x.git"}}, "unknown"},
		{"an instruction that only another syntax knows", "# syntax=docker/dockerfile:1\nFRUM scratch\n", plan.Build{},
			"unknown"},
	} {
		f, err := Parse([]byte(tt.dockerfile))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		refs := f.References(tt.build)
		got := strings.Join(refs.Names, " ")
		if refs.Unknown != nil {
			got = "unknown"
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
