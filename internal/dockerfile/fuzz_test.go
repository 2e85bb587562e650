package dockerfile

import (
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// FuzzParse: whatever a Dockerfile holds, what can be known of it is said.
func FuzzParse(f *testing.F) {
	f.Add([]byte("# syntax=docker/dockerfile:1\nARG A=1\nFROM base:$A AS b\nRUN --mount=type=cache,target=/c,id=x true\n" +
		"FROM --platform=$BUILDPLATFORM scratch\nCOPY --from=b --link a b /\nADD https://example.com/x /\n"))
	f.Add([]byte("FROM a\nRUN <<E\nx\nE\nONBUILD COPY . .\n"))
	f.Add([]byte("# escape=`\nFROM a AS a\nCOPY --from=0 a ` \n b\n"))
	f.Add([]byte("FROM \"\"\nCOPY --from=\"\" a b\n"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		d, err := Parse(data)
		if err != nil {
			return
		}
		for _, target := range append(d.Stages, "", "0") {
			b := plan.Build{Target: target, Args: map[string]string{"A": "1"}, Platforms: []string{"linux/amd64"}}
			d.References(b)
			d.Root(target)
			_, _ = d.Check(plan.Image{Repository: "shop", Build: b})
		}
		d.CacheMounts()
		d.FindStep("[1/2] RUN true")
	})
}
