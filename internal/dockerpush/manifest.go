package dockerpush

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/image"
)

// maxManifest is ECR's limit, in bytes.
const maxManifest = 4 << 20

func (s *session) putManifest(w http.ResponseWriter, r *http.Request, reference string) {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxManifest+1))
	if err != nil || len(data) > maxManifest {
		writeError(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID",
			"the manifest is too large or did not arrive whole")
		return
	}
	m := image.Manifest{MediaType: r.Header.Get("Content-Type"), Digest: digest.FromBytes(data), Data: data}
	if strings.Contains(reference, ":") && reference != m.Digest.String() {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "the manifest has the digest "+m.Digest.String())
		return
	}
	// also of one that is rewritten: the engine compares it with its own
	w.Header().Set("Docker-Content-Digest", m.Digest.String())
	w.Header().Set("Location", "/v2/"+s.path+"/manifests/"+m.Digest.String())
	if m.MediaType != image.DockerManifest && m.MediaType != ocispec.MediaTypeImageManifest {
		s.fail(fmt.Errorf("the engine pushes a manifest of the type %q", m.MediaType))
		writeError(w, http.StatusUnsupportedMediaType, "MANIFEST_INVALID", "not the manifest of an image")
		return
	}
	var sent struct{ Layers []json.RawMessage }
	if json.Unmarshal(data, &sent) == nil && sent.Layers == nil { // an engine writes null where there are none
		if m, err = m.WithKey("layers", []any{}); err != nil {
			s.fail(err)
			writeError(w, http.StatusBadGateway, "UNKNOWN", "the manifest could not be completed")
			return
		}
	}
	if s.rewritesConfig() {
		if m, err = s.rewriteManifest(r.Context(), m); err != nil {
			s.fail(err)
			writeError(w, http.StatusBadGateway, "UNKNOWN", "the image could not be completed")
			return
		}
	}
	if !s.acceptManifest(m) {
		writeError(w, http.StatusServiceUnavailable, "UNKNOWN", "the run has been stopped")
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// acceptManifest keeps the manifest of the push, unless it was refused before.
func (s *session) acceptManifest(m image.Manifest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses {
		return false
	}
	select {
	case s.manifest <- m:
	default: // the same one, put again
	}
	return true
}

// refuseManifest has a manifest that comes from now on refused; false says that one is there.
func (s *session) refuseManifest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = len(s.manifest) == 0
	return s.refuses
}

// rewriteManifest returns the manifest that the registry gets; its config is put.
func (s *session) rewriteManifest(ctx context.Context, m image.Manifest) (image.Manifest, error) {
	var from ocispec.Manifest
	if err := json.Unmarshal(m.Data, &from); err != nil {
		return m, fmt.Errorf("the engine's manifest: %w", err)
	}
	config, ok := s.config(from.Config.Digest)
	if !ok {
		return m, fmt.Errorf("the engine names a config %s that it did not push", from.Config.Digest)
	}
	if s.rewriter != nil {
		return s.rewriter.manifest(ctx, s, from.Layers, config)
	}
	config, err := s.inputs.AddLabel(ctx, config)
	if err != nil {
		return m, err
	}
	if err := image.PutBytes(ctx, s.store, digest.FromBytes(config), config); err != nil {
		return m, err
	}
	return image.WithConfig(m, config)
}
