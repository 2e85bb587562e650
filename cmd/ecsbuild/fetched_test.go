package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// fetched writes which blobs were fetched, from ECR and from Docker Hub, a line each, and how
// often, or how much of one that did not come whole.
func (s *stage) fetched(file string) error {
	got := map[string]int64{}
	for _, q := range s.rig.Requests() {
		repo, d, blob := q.Repository, "", false
		if q.Action == "hub" {
			repo, d, blob = strings.Cut(q.Path, "/blobs/")
		} else {
			d, blob = strings.CutPrefix(q.Path, "blobs/")
		}
		if blob && q.Method == http.MethodGet && q.Status < 300 {
			got[repo+" "+d] += q.Answered
		}
	}
	count := map[string]int{}
	for key, n := range got {
		repo, d, _ := strings.Cut(key, " ")
		name, size := s.nameOf(repo, d)
		line := repo + ": " + name
		switch {
		case size == 0 || n%size != 0:
			line += fmt.Sprintf(", %d of %d bytes", n, size)
		case n > size:
			line += fmt.Sprintf(", %d times", n/size)
		}
		count[line]++
	}
	var text strings.Builder
	for _, line := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&text, "%d %s\n", count[line], line)
	}
	return os.WriteFile(file, []byte(text.String()), 0o644)
}

// nameOf is what a blob is of the first image that has it, and its size.
func (s *stage) nameOf(repo, d string) (name string, size int64) {
	images := map[string][]byte{} // by tag
	for tag := range s.rig.Tags(awstest.Account, repo) {
		images[tag] = s.rig.Manifest(awstest.Account, repo, tag)
	}
	if len(images) == 0 { // a base image
		rec := httptest.NewRecorder()
		s.rig.Hub().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v2/"+repo+"/manifests/1", nil))
		images["1"] = rec.Body.Bytes()
	}
	for _, tag := range slices.Sorted(maps.Keys(images)) {
		m, err := v1.ParseManifest(bytes.NewReader(images[tag]))
		if err != nil {
			continue
		}
		if m.Config.Digest.String() == d {
			return "config of " + tag, m.Config.Size
		}
		for _, l := range m.Layers {
			if l.Digest.String() == d {
				return "layer of " + tag, l.Size
			}
		}
	}
	return "a blob", 0
}
