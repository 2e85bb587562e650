package pipeline

import (
	"errors"

	"github.com/ecsbuild/ecsbuild/internal/engine"
	"github.com/ecsbuild/ecsbuild/internal/imagedef"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// FileError is a file of the run that cannot be written: the definitions, or
// what else was asked for.
type FileError struct {
	File  string
	Early bool // found before anything was built
	Late  bool // found when every image was in the registry under its tags
	Err   error
}

func (e *FileError) Error() string { return e.File + ": " + e.Err.Error() }

func (e *FileError) Unwrap() error { return e.Err }

// Remove takes files away, of an earlier run or of one that has failed, all of
// them whatever becomes of one; the error is a *FileError.
func Remove(files ...string) (err error) {
	for _, f := range files {
		if ferr := imagedef.Remove(f); ferr != nil && err == nil {
			err = &FileError{File: f, Early: true, Err: ferr}
		}
	}
	return err
}

// Try makes sure of the place of files that a run will write.
func Try(files ...string) error {
	for _, f := range files {
		if err := imagedef.Try(f); err != nil {
			return &FileError{File: f, Early: true, Err: err}
		}
	}
	return nil
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
			data, err = imagedef.EncodeDetail(by[d.Containers[0]].URI(true))
		} else {
			var defs []imagedef.Definition
			for _, c := range d.Containers {
				defs = append(defs, imagedef.Definition{Name: c, ImageURI: by[c].URI(pin)})
			}
			data, err = imagedef.Encode(defs)
		}
		if err != nil {
			return nil, &FileError{File: d.File, Late: true, Err: err}
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
		if err := imagedef.Write(d.File, contents[i]); err != nil {
			return &FileError{File: d.File, Late: true, Err: err}
		}
	}
	return nil
}

// checkSize refuses a file that will be too large before anything is built.
func checkSize(p *plan.Plan, pushed []Pushed, pin bool) error {
	const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	trial := make([]Pushed, len(pushed))
	for i, img := range pushed {
		img.Built = &engine.Built{Manifests: []engine.Manifest{{Digest: digest}}}
		trial[i] = img
	}
	var e *FileError
	if _, err := Definitions(p, trial, pin); errors.As(err, &e) {
		return &plan.Error{What: e.File + " is too large", Why: e.Err.Error()}
	}
	return nil
}
