package pipeline

import (
	"errors"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/imagedef"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// DefinitionsFile is where definitions are written.
func DefinitionsFile(d plan.Definitions) artifact.File {
	return artifact.File{Path: d.File, Kind: artifact.Definitions, Flag: "--output, or file under definitions"}
}

// Definitions gives the content of each file of the plan. An image-detail file
// always names the digest, as blue/green deployments want it.
func Definitions(p *plan.Plan, pushed []Pushed, pin bool) ([][]byte, error) {
	by := map[string]Pushed{}
	for _, img := range pushed {
		for _, c := range img.Image.Containers {
			by[c] = img
		}
	}
	var out [][]byte
	for _, d := range p.Definitions {
		var data []byte
		var err error
		if d.Format == plan.ImageDetail {
			image := by[d.Containers[0]]
			data, err = imagedef.EncodeDetail(image.URI(image.Built != nil)) // a dry run knows no digest
		} else {
			var defs []imagedef.Definition
			for _, c := range d.Containers {
				defs = append(defs, imagedef.Definition{Name: c, ImageURI: by[c].URI(pin)})
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

func writeDefinitions(p *plan.Plan, pushed []Pushed, pin bool) error {
	contents, err := Definitions(p, pushed, pin)
	if err != nil {
		return err
	}
	for i, d := range p.Definitions {
		if err := DefinitionsFile(d).Write(contents[i]); err != nil {
			return &artifact.Error{File: d.File, Late: true, Err: err}
		}
	}
	return nil
}

// checkSize refuses a file that will be too large before anything is built.
func checkSize(p *plan.Plan, pushed []Pushed, pin bool) error {
	const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	trial := make([]Pushed, len(pushed))
	for i, img := range pushed {
		img.Built = &image.Artifact{Manifests: []image.Manifest{{Digest: digest}}}
		trial[i] = img
	}
	var e *artifact.Error
	if _, err := Definitions(p, trial, pin); errors.As(err, &e) {
		return &fault.Error{What: e.File + " is too large", Why: e.Err.Error()}
	}
	return nil
}
