// Package baseimage reads base images from their own registry: their layers, which a push
// copies, and Docker Hub's pull limit.
package baseimage

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/httptransport"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// Images knows the base images of a run, and reads their layers: one that the
// registry lacks goes there from the base's own registry, as it was compressed
// upstream, and not through an engine that would compress it again.
type Images struct {
	login func(ctx context.Context, host string) (a plan.Account, ok bool)
	agent string
	known *hoststate.State

	mu         sync.Mutex
	images     map[string]*baseImage        // by reference and platform
	transports map[string]http.RoundTripper // by the registry, which may not send us just anywhere
}

type baseImage struct {
	ref      name.Digest
	platform v1.Platform

	mu     sync.Mutex
	read   bool
	layers []baseLayer
}

// A baseLayer is a layer as the host state has it, so that the next run need not read the
// manifest from Docker Hub, which counts as a pull. Its digest tells whether it is right.
type baseLayer struct {
	Digest digest.Digest `json:"digest"`
	DiffID digest.Digest `json:"diff_id"`
	Size   int64         `json:"size"` // bytes, compressed
}

// hintKind is the kind of hint that holds them.
const hintBases = "bases"

// New makes the base images of a run.
func New(login func(context.Context, string) (plan.Account, bool), agent string, known *hoststate.State) *Images {
	return &Images{login: login, agent: agent, known: known, images: map[string]*baseImage{},
		transports: map[string]http.RoundTripper{}}
}

// Observe is told of a base image, as ref@sha256:…, and the platform of its build.
func (b *Images) Observe(ref, platform string) {
	d, err1 := name.NewDigest(ref)
	p, err2 := v1.ParsePlatform(platform)
	if err1 != nil || err2 != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := d.DigestStr() + " " + platform
	if b.images[key] == nil {
		b.images[key] = &baseImage{ref: d, platform: *p}
	}
}

// LayerByDigest finds a layer among the base images seen so far. The manifests are
// read when a layer is first asked for, so that a run whose registry has
// everything asks nobody.
func (b *Images) LayerByDigest(ctx context.Context, d digest.Digest) (size int64, open func() (io.ReadCloser, error),
	ok bool) {
	_, size, open, ok = b.find(ctx, func(l baseLayer) bool { return l.Digest == d })
	return size, open, ok
}

// LayerByDiffID finds the layer that unpacks to a diffID.
func (b *Images) LayerByDiffID(ctx context.Context, diffID digest.Digest) (d digest.Digest, size int64,
	open func() (io.ReadCloser, error), ok bool) {
	return b.find(ctx, func(l baseLayer) bool { return l.DiffID == diffID })
}

func (b *Images) find(ctx context.Context, is func(baseLayer) bool) (d digest.Digest, size int64,
	open func() (io.ReadCloser, error), ok bool) {
	b.mu.Lock()
	keys := slices.Sorted(maps.Keys(b.images))
	b.mu.Unlock()
	for _, k := range keys {
		b.mu.Lock()
		img := b.images[k]
		b.mu.Unlock()
		for _, l := range b.layersOf(ctx, k, img) {
			if is(l) {
				return l.Digest, l.Size, func() (io.ReadCloser, error) { return b.open(ctx, img, l.Digest) }, true
			}
		}
	}
	return "", 0, nil, false
}

// copiesAtOnce bounds the layers of one base image that travel side by side.
const copiesAtOnce = 3

// Copy puts the layers of a base image that was seen, those of at least so
// many bytes. Reading its manifest
// counts as a pull at Docker Hub: where the host state does not have it, and the
// pulls are an anonymous address's few, nothing is copied ahead.
func (b *Images) Copy(ctx context.Context, ref, platform string, least int64,
	put func(context.Context, digest.Digest, int64, func() (io.ReadCloser, error)) error) error {
	d, err := name.NewDigest(ref)
	if err != nil {
		return err
	}
	b.mu.Lock()
	key := d.DigestStr() + " " + platform
	img := b.images[key]
	b.mu.Unlock()
	if img == nil {
		return nil
	}
	host := plan.CanonicalHost(img.ref.RegistryStr())
	_, account := b.login(ctx, host)
	var known []baseLayer
	if !b.known.Get(hintBases, key, &known) && !account && host == plan.DockerHub {
		return nil
	}
	g, copying := errgroup.WithContext(ctx)
	g.SetLimit(copiesAtOnce)
	for _, l := range b.layersOf(ctx, key, img) {
		if l.Size < least {
			continue
		}
		g.Go(func() error {
			return put(copying, l.Digest, l.Size, func() (io.ReadCloser, error) { return b.open(copying, img, l.Digest) })
		})
	}
	return g.Wait()
}

// layersOf returns the layers of a base image, which are read once. What a caller has
// canceled is no answer for the next one.
func (b *Images) layersOf(ctx context.Context, key string, img *baseImage) []baseLayer {
	img.mu.Lock()
	defer img.mu.Unlock()
	if !img.read {
		img.layers = b.layers(ctx, key, img)
		img.read = ctx.Err() == nil
	}
	return img.layers
}

// layers reads a base's manifest, or what the host state has of it. What cannot be read is
// no layer: the engine then sends its own.
func (b *Images) layers(ctx context.Context, key string, img *baseImage) []baseLayer {
	var known []baseLayer
	if b.known.Get(hintBases, key, &known) {
		return known
	}
	desc, err := remote.Get(img.ref, b.options(ctx, img.ref.Context(), remote.WithPlatform(img.platform))...)
	if err != nil {
		return nil
	}
	image, err := desc.Image()
	if err != nil {
		return nil
	}
	m, err := image.Manifest()
	if err != nil {
		return nil
	}
	cfg, err := image.ConfigFile()
	if err != nil || len(cfg.RootFS.DiffIDs) != len(m.Layers) {
		return nil
	}
	var out []baseLayer
	for i, l := range m.Layers {
		// An engine writes gzip's media type for whatever the registry has.
		if strings.HasSuffix(string(l.MediaType), "gzip") && len(l.URLs) == 0 {
			out = append(out, baseLayer{Digest: digest.Digest(l.Digest.String()),
				DiffID: digest.Digest(cfg.RootFS.DiffIDs[i].String()), Size: l.Size})
		}
	}
	b.known.Put(hintBases, key, out)
	return out
}

func (b *Images) open(ctx context.Context, img *baseImage, d digest.Digest) (io.ReadCloser, error) {
	l, err := remote.Layer(img.ref.Context().Digest(d.String()), b.options(ctx, img.ref.Context())...)
	if err != nil {
		return nil, err
	}
	return l.Compressed() // checks the digest as it is read
}

// Resolve returns the digest that an image's name has now. At Docker Hub that is
// no pull.
func (b *Images) Resolve(ctx context.Context, ref string) (digest.Digest, error) {
	tag, err := name.ParseReference(ref)
	if err != nil {
		return "", err
	}
	desc, err := remote.Head(tag, b.options(ctx, tag.Context())...)
	if err != nil {
		return "", err
	}
	return digest.Digest(desc.Digest.String()), nil
}

func (b *Images) options(ctx context.Context, from name.Repository, more ...remote.Option) []remote.Option {
	auth := authn.Anonymous
	if a, ok := b.login(ctx, plan.CanonicalHost(from.RegistryStr())); ok && a.Username == "" {
		auth = authn.FromConfig(authn.AuthConfig{IdentityToken: a.Password.Reveal()})
	} else if ok {
		auth = &authn.Basic{Username: a.Username, Password: a.Password.Reveal()}
	}
	return append(more, remote.WithContext(ctx), remote.WithAuth(auth),
		remote.WithTransport(b.transport(from.RegistryStr())), remote.WithUserAgent(b.agent))
}

func (b *Images) transport(host string) http.RoundTripper {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.transports[host] == nil {
		b.transports[host] = httptransport.New(host)
	}
	return b.transports[host]
}

// Close drops idle connections.
func (b *Images) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.transports {
		(&http.Client{Transport: t}).CloseIdleConnections()
	}
}
