package image

// The media types of Docker's image manifest, version 2, schema 2.
// https://github.com/distribution/distribution/blob/main/docs/content/spec/manifest-v2-2.md
const (
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
	DockerLayer        = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)
