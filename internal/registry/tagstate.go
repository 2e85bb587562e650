package registry

import (
	"context"
	"net/http"

	"github.com/opencontainers/go-digest"
)

// A TagState is what the registry says of a tag before a run moves it.
type TagState struct {
	Digest    digest.Digest // that it points at, "" for nothing
	Immutable bool          // known to be so
}

// TagDigest asks what a tag points at, "" for nothing. It needs ecr:BatchGetImage.
func (r *Repository) TagDigest(ctx context.Context, tag string) (digest.Digest, error) {
	h, status, err := r.client.doDiscard(ctx, r.Name,
		request{action: actionGetManifest, method: http.MethodHead, url: r.url("manifests/" + tag), types: manifestTypes,
			accept: []int{http.StatusOK, http.StatusNotFound}})
	if err != nil || status == http.StatusNotFound {
		return "", err
	}
	return digest.Parse(h.Get("Docker-Content-Digest"))
}
