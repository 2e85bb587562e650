package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/opencontainers/go-digest"
)

// Reading back is for reuse; a push does not need it.
const (
	actionGetManifest = "BatchGetImage"
	actionGetBlob     = "GetDownloadUrlForLayer"
)

// manifestTypes are all that an image or index may be.
const manifestTypes = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, " +
	"application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"

// maxRead bounds what is read back, in bytes: ECR's limit for a manifest, and
// more than any config has.
const maxRead = 4 << 20

// Manifest reads what a tag or digest names; ok is false where nothing is there.
// It needs ecr:BatchGetImage.
func (r *Repository) Manifest(ctx context.Context, reference string) (mediaType string, data []byte, ok bool,
	err error) {
	resp, data, err := r.read(ctx, request{action: actionGetManifest, method: http.MethodGet,
		url: r.url("manifests/" + reference), types: manifestTypes, accept: []int{http.StatusOK, http.StatusNotFound}})
	if err != nil || resp.StatusCode == http.StatusNotFound {
		return "", nil, false, err
	}
	if d, err := digest.Parse(reference); err == nil && d.Algorithm().FromBytes(data) != d {
		return "", nil, false, r.client.newError(r.Name, actionGetManifest, fmt.Errorf("%s arrived as something else", d))
	}
	return resp.Header.Get("Content-Type"), data, true, nil
}

// Blob reads a small blob, such as an image's config. It needs
// ecr:GetDownloadUrlForLayer.
func (r *Repository) Blob(ctx context.Context, d digest.Digest) ([]byte, error) {
	_, data, err := r.read(ctx, request{action: actionGetBlob, method: http.MethodGet, url: r.url("blobs/" + d.String()),
		accept: []int{http.StatusOK}})
	if err == nil && digest.FromBytes(data) != d {
		err = r.client.newError(r.Name, actionGetBlob, fmt.Errorf("%s arrived as something else", d))
	}
	return data, err
}

// Download writes a blob of so many bytes to a file, from its beginning, whatever is in it.
// It needs ecr:GetDownloadUrlForLayer.
func (r *Repository) Download(ctx context.Context, d digest.Digest, size int64, file *os.File) error {
	return retry(ctx, func() error {
		resp, err := r.client.do(ctx, r.Name, request{action: actionGetBlob, method: http.MethodGet,
			url: r.url("blobs/" + d.String()), accept: []int{http.StatusOK}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		fail := func(err error) error { return r.client.newError(r.Name, actionGetBlob, err) }
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return permanentError{err}
		}
		if err := file.Truncate(0); err != nil {
			return permanentError{err}
		}
		verifier := d.Verifier()
		n, err := io.Copy(io.MultiWriter(file, verifier), io.LimitReader(resp.Body, size+1))
		var full *os.PathError
		switch {
		case errors.As(err, &full):
			return permanentError{err}
		case err != nil:
			return fail(err)
		case n != size || !verifier.Verified():
			return fail(fmt.Errorf("%s arrived as something else: %w", d, io.ErrUnexpectedEOF))
		}
		return nil
	})
}

func (r *Repository) read(ctx context.Context, q request) (resp *http.Response, data []byte, err error) {
	err = retry(ctx, func() error {
		if resp, err = r.client.do(ctx, r.Name, q); err != nil {
			return err
		}
		defer resp.Body.Close()
		if data, err = io.ReadAll(io.LimitReader(resp.Body, maxRead)); err != nil {
			return &Error{Host: r.client.Host.Name, Repository: r.Name, Action: q.action, Err: err}
		}
		return nil
	})
	return resp, data, err
}
