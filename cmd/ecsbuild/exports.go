package main

import (
	"fmt"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// exports is a file that a buildspec sources: the variables of each container
// that CodeBuild may then hand on, ECSBUILD_IMAGE_URI_NAME and
// ECSBUILD_IMAGE_DIGEST_NAME.
type exports struct {
	file string // absolute, "" for none
}

// newExports finds containers whose variables would have one name.
func newExports(p *plan.Plan, file string) (exports, error) {
	if file == "" {
		return exports{}, nil
	}
	names := map[string]string{}
	for _, img := range p.Images {
		for _, c := range img.Names() {
			v := plan.Variable(c)
			if other, ok := names[v]; ok {
				return exports{}, &fault.Error{What: fmt.Sprintf("--exports: the images %s and %s would both be ECSBUILD_IMAGE_URI_%s", other, c, v), Fix: "rename one of them, or leave --exports out"}
			}
			names[v] = c
		}
	}
	return exports{file}, nil
}

// write writes the file; nothing in it needs more quoting than these quotes.
func (e exports) write(pushed []pipeline.Pushed, pin bool) error {
	if e.file == "" {
		return nil
	}
	var b strings.Builder
	for _, p := range pushed {
		for _, c := range p.Image.Names() {
			fmt.Fprintf(&b, "export ECSBUILD_IMAGE_URI_%s='%s'\n", plan.Variable(c), p.Ref(pin))
			fmt.Fprintf(&b, "export ECSBUILD_IMAGE_DIGEST_%s='%s'\n", plan.Variable(c), p.Artifact.Root().Digest)
		}
	}
	file := artifact.File{Path: e.file, Kind: artifact.Exports, Flag: "--exports"}
	if err := file.Write([]byte(b.String())); err != nil {
		return &artifact.Error{File: e.file, Late: true, Err: err}
	}
	return nil
}
