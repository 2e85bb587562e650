package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/pipeline"
)

// stepOutputs says what later steps of a job of GitHub Actions may use:
// imagedefinitions, images and digests as JSON, and image-NAME and digest-NAME
// a container.
// https://docs.github.com/actions/reference/workflow-commands-for-github-actions#setting-an-output-parameter
func (r *execution) stepOutputs(result *pipeline.Result, pin bool) error {
	if r.app.githubFile("GITHUB_OUTPUT") == "" {
		return nil
	}
	type image struct {
		Image  string `json:"image"`
		Digest string `json:"digest"`
	}
	images, digests := map[string]image{}, map[string]string{}
	var b strings.Builder
	for _, one := range result.Images {
		for _, c := range one.Image.Names() {
			images[c] = image{one.Ref(pin).String(), one.Artifact.Root().Digest.String()}
			digests[c] = images[c].Digest
			fmt.Fprintf(&b, "image-%s=%s\ndigest-%s=%s\n", c, images[c].Image, c, digests[c])
		}
	}
	first := json.RawMessage("[]") // there may be no file
	if len(result.Definitions) > 0 {
		first = result.Definitions[0]
	}
	for name, v := range map[string]any{"images": images, "digests": digests, "imagedefinitions": first} {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s=%s\n", name, data)
	}
	r.outputs = b.String()
	r.summaryLines = append(r.summaryLines,
		fmt.Sprintf("the step's outputs name the registry %s; where its account number is masked, GitHub empties the job outputs that hold it, and digests, which has none, is left", result.Images[0].Refs[0].Registry))
	return nil
}
