package localregistry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/atomicfile"
)

// savedManifest is a manifest as it lies in the folder, in a file named by its tag and in
// one named by its digest.
type savedManifest struct {
	MediaType string `json:"mediaType"`
	Manifest  []byte `json:"manifest"` // to the byte, so as base64
}

// maxManifest is the largest manifest that ECR takes, too.
const maxManifest = 4 << 20

var tagName = regexp.MustCompile(`^` + tagPattern + `$`)

func (r repository) manifestFile(reference string) string {
	return filepath.Join(r.folder, "manifests", url.PathEscape(reference))
}

func (r repository) serveManifest(w http.ResponseWriter, req *http.Request, reference string) error {
	if _, err := digest.Parse(reference); err != nil && !tagName.MatchString(reference) {
		return failure{http.StatusBadRequest, "MANIFEST_INVALID", fmt.Sprintf("%q is no tag and no digest", reference)}
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		m, err := r.manifest(reference)
		if err != nil {
			return err
		}
		d := digest.FromBytes(m.Manifest)
		if asked, err := digest.Parse(reference); err == nil {
			d = asked
		}
		w.Header().Set("Content-Type", m.MediaType)
		w.Header().Set("Docker-Content-Digest", d.String())
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(m.Manifest))
		return nil
	case http.MethodPut:
		return r.putManifest(w, req, reference)
	case http.MethodDelete:
		return r.deleteManifest(w, reference)
	}
	return errMethod
}

// manifest reads one. Half a file is a manifest that is not there.
func (r repository) manifest(reference string) (m savedManifest, err error) {
	data, err := os.ReadFile(r.manifestFile(reference))
	if err == nil && json.Unmarshal(data, &m) == nil {
		return m, nil
	}
	if err != nil && !isMissing(err) {
		return m, err
	}
	return m, failure{http.StatusNotFound, "MANIFEST_UNKNOWN", "the repository " + r.name + " has no " + reference}
}

// content is what counts of a manifest or an index.
type content struct {
	MediaType    string               `json:"mediaType"`
	ArtifactType string               `json:"artifactType"`
	Config       ocispec.Descriptor   `json:"config"`
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
	Annotations  map[string]string    `json:"annotations"`
}

func (r repository) putManifest(w http.ResponseWriter, req *http.Request, reference string) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifest))
	if err != nil {
		return failure{http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", err.Error()}
	}
	var c content
	if err := json.Unmarshal(body, &c); err != nil {
		return failure{http.StatusBadRequest, "MANIFEST_INVALID", err.Error()}
	}
	mediaType := cmp.Or(req.Header.Get("Content-Type"), c.MediaType)
	if mediaType == "" {
		return failure{http.StatusBadRequest, "MANIFEST_INVALID", "it has no media type"}
	}
	d := digest.FromBytes(body)
	if asked, err := digest.Parse(reference); err == nil {
		if d = asked.Algorithm().FromBytes(body); d != asked {
			return failure{http.StatusBadRequest, "DIGEST_INVALID", "what has arrived is not " + reference}
		}
	}
	for _, m := range c.Manifests {
		if _, err := r.manifest(m.Digest.String()); err != nil {
			return failure{http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", fmt.Sprintf("%s: %v", m.Digest, err)}
		}
	}
	data, err := json.Marshal(savedManifest{MediaType: mediaType, Manifest: body})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.folder, "manifests"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{d.String(), reference} { // a tag must not point at what is not there
		if err := atomicfile.Write(r.manifestFile(name), data, 0o644); err != nil {
			return err
		}
	}
	if c.Subject != nil {
		w.Header().Set("OCI-Subject", c.Subject.Digest.String())
	}
	r.created(w, "manifests", d)
	return nil
}

// deleteManifest removes a tag, or a manifest and the tags that point at it.
func (r repository) deleteManifest(w http.ResponseWriter, reference string) error {
	m, err := r.manifest(reference)
	if err != nil {
		return err
	}
	if _, err := digest.Parse(reference); err == nil {
		tags, err := r.tags()
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if other, err := r.manifest(tag); err == nil && bytes.Equal(other.Manifest, m.Manifest) {
				_ = os.Remove(r.manifestFile(tag))
			}
		}
	}
	if err := os.Remove(r.manifestFile(reference)); err != nil && !isMissing(err) {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// references are the names of all manifests: tags and digests.
func (r repository) references() ([]string, error) {
	files, err := os.ReadDir(filepath.Join(r.folder, "manifests"))
	if err != nil && !isMissing(err) {
		return nil, err
	}
	var names []string
	for _, f := range files {
		if name, err := url.PathUnescape(f.Name()); err == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (r repository) tags() ([]string, error) {
	names, err := r.references()
	return slices.DeleteFunc(names, func(name string) bool { return !tagName.MatchString(name) }), err
}

func (r repository) listTags(w http.ResponseWriter, req *http.Request) error {
	if _, err := os.Stat(r.folder); isMissing(err) {
		return failure{http.StatusNotFound, "NAME_UNKNOWN", "there is no repository " + r.name}
	}
	tags, err := r.tags()
	if err != nil {
		return err
	}
	query := req.URL.Query()
	if last := query.Get("last"); last != "" {
		tags = slices.DeleteFunc(tags, func(tag string) bool { return tag <= last })
	}
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return failure{http.StatusBadRequest, "UNSUPPORTED", fmt.Sprintf("n is %q, not a number", text)}
		}
		if n > 0 && n < len(tags) {
			tags = tags[:n]
			next := url.Values{"n": {text}, "last": {tags[n-1]}}
			w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.url("tags", "list"), next.Encode()))
		} else if n == 0 {
			tags = nil
		}
	}
	return answerJSON(w, "application/json", map[string]any{"name": r.name, "tags": append([]string{}, tags...)})
}

// listReferrers answers with an index of the manifests whose subject is a digest.
func (r repository) listReferrers(w http.ResponseWriter, req *http.Request, text string) error {
	subject, err := parseDigest(text)
	if err != nil {
		return err
	}
	names, err := r.references()
	if err != nil {
		return err
	}
	wanted := req.URL.Query().Get("artifactType")
	if wanted != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{}}
	for _, name := range names {
		d, err := digest.Parse(name)
		if err != nil {
			continue // a tag of one that has its own file
		}
		m, err := r.manifest(name)
		var c content
		if err != nil || json.Unmarshal(m.Manifest, &c) != nil || c.Subject == nil || c.Subject.Digest != subject {
			continue
		}
		kind := c.ArtifactType
		if kind == "" && len(c.Manifests) == 0 {
			kind = c.Config.MediaType
		}
		if wanted == "" || kind == wanted {
			index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: m.MediaType, Digest: d,
				Size: int64(len(m.Manifest)), ArtifactType: kind, Annotations: c.Annotations})
		}
	}
	return answerJSON(w, ocispec.MediaTypeImageIndex, index)
}

func answerJSON(w http.ResponseWriter, mediaType string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
	return nil
}
