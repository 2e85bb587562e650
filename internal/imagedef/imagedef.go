// Package imagedef encodes and checks the files that CodePipeline's ECS deploy actions read.
//
// https://docs.aws.amazon.com/codepipeline/latest/userguide/file-reference.html
package imagedef

import (
	"bytes"
	"fmt"

	"github.com/ecsbuild/ecsbuild/internal/format"
)

// MaxSize is what the ECS deploy action accepts, in bytes (100 KB).
const MaxSize = 100 * 1000

// A Definition names the image that a container of the task definition runs.
type Definition struct {
	Name     string `json:"name"`
	ImageURI string `json:"imageUri"`
}

// Encode returns imagedefinitions.json: a list in the order given, on one line.
func Encode(defs []Definition) ([]byte, error) {
	if defs == nil {
		defs = []Definition{} // an empty list, never null
	}
	return encode(defs)
}

// EncodeDetail returns imageDetail.json, which a blue/green deployment reads.
func EncodeDetail(uri string) ([]byte, error) {
	return encode(struct{ ImageURI string }{uri})
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	if err := format.JSON(&b, v, ""); err != nil {
		return nil, err
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("it would have %d bytes, and the deploy action reads at most %d: split the containers over several files under definitions", b.Len(), MaxSize)
	}
	return b.Bytes(), nil
}
