package pipeline

import (
	"errors"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/imagedef"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// DefinitionsFile is where definitions are written.
func DefinitionsFile(d plan.Definitions) artifact.File {
	return artifact.File{Path: d.File, Kind: artifact.Definitions, Flag: "--output, or file under definitions"}
}

// definitions returns the content of each file of the plan. An image-detail file
// always names the digest, as blue/green deployments want it.
func definitions(p *plan.Plan, images []Pushed, pin bool) ([][]byte, error) {
	by := map[string]Pushed{}
	for _, img := range images {
		by[img.Image.Name()] = img
	}
	var out [][]byte
	for _, d := range p.Definitions {
		var data []byte
		var err error
		if d.Format == plan.ImageDetail {
			img := by[d.Entries[0].Image]
			data, err = imagedef.EncodeDetail(img.Ref(img.Artifact != nil).String()) // a dry run knows no digest
		} else {
			var defs []imagedef.Definition
			for _, e := range d.Entries {
				uri := e.URI
				if uri == "" {
					uri = by[e.Image].Ref(pin).String()
				}
				defs = append(defs, imagedef.Definition{Name: e.Container, ImageURI: uri})
			}
			data, err = imagedef.Encode(defs)
		}
		if err != nil {
			return nil, &artifact.Error{File: d.File, Late: true, Err: err}
		}
		out = append(out, data)
	}
	return out, nil
}

func writeDefinitions(p *plan.Plan, contents [][]byte) error {
	for i, d := range p.Definitions {
		if err := DefinitionsFile(d).Write(contents[i]); err != nil {
			return &artifact.Error{File: d.File, Late: true, Err: err}
		}
	}
	return nil
}

// checkDefinitionsSize refuses a file that will be too large before anything is built.
func checkDefinitionsSize(p *plan.Plan, jobs []builder.Job, pin bool) error {
	const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	var trial []Pushed
	for _, j := range jobs {
		trial = append(trial, Pushed{Image: j.Image, Refs: j.Refs,
			Artifact: &image.Artifact{Manifests: []image.Manifest{{Digest: digest}}}})
	}
	var e *artifact.Error
	if _, err := definitions(p, trial, pin); errors.As(err, &e) {
		return &fault.Error{What: e.File + " is too large", Why: e.Err.Error()}
	}
	return nil
}
