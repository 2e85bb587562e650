package image

import (
	"encoding/json"
	"fmt"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Part is an image that was built for some of the platforms that an index will name.
type Part struct {
	Platforms []string // as linux/arm64; more than one where the artifact is an index itself
	Artifact  *Artifact
}

// Join makes one index of parts, in their order. It refuses a platform that is there twice.
func Join(parts []Part) (*Artifact, error) {
	out := &Artifact{}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	seen, docker := map[string]bool{}, true
	for _, p := range parts {
		root := p.Artifact.Root()
		var c Contents
		if err := json.Unmarshal(root.Data, &c); err != nil {
			return nil, fmt.Errorf("the image's manifest: %w", err)
		}
		manifests, kept := c.Manifests, p.Artifact.Manifests[:len(p.Artifact.Manifests)-1]
		if root.MediaType != DockerManifestList && root.MediaType != ocispec.MediaTypeImageIndex {
			if len(p.Platforms) != 1 {
				return nil, fmt.Errorf("an image for %d platforms is no index", len(p.Platforms))
			}
			platform, err := platforms.Parse(p.Platforms[0])
			if err != nil {
				return nil, err
			}
			platform = platforms.Normalize(platform)
			manifests = []ocispec.Descriptor{{MediaType: root.MediaType, Digest: root.Digest, Size: int64(len(root.Data)),
				Platform: &platform}}
			kept = p.Artifact.Manifests
		}
		docker = docker && (root.MediaType == DockerManifest || root.MediaType == DockerManifestList)
		for _, m := range manifests {
			if m.Platform == nil {
				continue
			}
			name := platforms.FormatAll(*m.Platform)
			if seen[name] {
				return nil, fmt.Errorf("the platform %s is there twice", name)
			}
			seen[name] = true
		}
		index.Manifests = append(index.Manifests, manifests...)
		out.Manifests = append(out.Manifests, kept...)
		out.DiffIDs = append(out.DiffIDs, p.Artifact.DiffIDs...)
	}
	if docker {
		index.MediaType = DockerManifestList
	}
	data, err := json.Marshal(index)
	if err != nil {
		return nil, err
	}
	out.Manifests = append(out.Manifests, Manifest{MediaType: index.MediaType, Digest: digest.FromBytes(data), Data: data})
	return out, nil
}
