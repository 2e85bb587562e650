package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/grpchijack"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc/codes"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A Request is one image to build.
type Request struct {
	Image    plan.Image
	Login    Login
	Secrets  map[string]plan.Secret // by the id that RUN --mount names
	Names    []string               // what docker images shall call it, where the engine keeps images
	Contexts *Contexts
	Status   func(*bkclient.SolveStatus)
	Note     func(string) // a line for the user
	Bases    Bases        // nil for none
}

// Bases lends the layers of base images from their own registry.
type Bases interface {
	// Seen hears of a base image, as ref@sha256:…, and the platform it is taken for.
	Seen(ref, platform string)
	// Layer finds a layer of a base image that was seen, with its size in bytes.
	Layer(ctx context.Context, d digest.Digest) (size int64, open func() (io.ReadCloser, error), ok bool)
	// Copy puts every layer of a base image that was seen; it stops at the first
	// that fails.
	Copy(ctx context.Context, ref, platform string, put func(ctx context.Context, d digest.Digest, size int64, open func() (io.ReadCloser, error)) error) error
}

// Built is an image whose blobs are in its Sink; no tag names it yet.
type Built struct {
	Manifests []Manifest // those that an index names first, the root last
}

// Root is what a tag will point at.
func (b *Built) Root() Manifest { return b.Manifests[len(b.Manifests)-1] }

// A Manifest is an image manifest or index, as it will be in the registry.
type Manifest struct {
	MediaType string
	Digest    digest.Digest
	Data      []byte
}

// Build builds an image and sends its blobs to sink.
func (e *Engine) Build(ctx context.Context, r Request, sink Sink) (*Built, error) {
	if e.Store != Classic {
		return e.buildBlobs(ctx, r, sink)
	}
	door, err := e.openDoor(ctx)
	if err != nil {
		return nil, err
	}
	if door == nil {
		return e.buildAndSave(ctx, r, sink)
	}
	slot := door.Open(r.Image, sink, r.Bases)
	defer slot.Close()
	copies := newCopies(r.Image, sink)
	defer copies.end()
	if _, err := e.solve(ctx, &r, moby(append(slices.Clone(r.Names), slot.Name)), copies, false); err != nil {
		return nil, err
	}
	return e.push(ctx, slot)
}

// BuildLocal builds an image and leaves it in the engine under its names. A
// buildkitd has nowhere to leave it.
func (e *Engine) BuildLocal(ctx context.Context, r Request) error {
	export := moby(r.Names)
	if e.Store == BuildKitd {
		r.Note("built and dropped: " + e.String() + " keeps no images")
		export = nil
	}
	copies := newCopies(r.Image, nil)
	defer copies.end()
	_, err := e.solve(ctx, &r, export, copies, false)
	return err
}

func moby(names []string) []bkclient.ExportEntry {
	return []bkclient.ExportEntry{{Type: "moby", Attrs: map[string]string{"name": strings.Join(names, ",")}}}
}

// maxExports is how often an export is begun when uploads break: what was
// built is in BuildKit's cache, and what was sent is not sent again.
const maxExports = 4

// buildBlobs exports through BuildKit's content store protocol.
func (e *Engine) buildBlobs(ctx context.Context, r Request, sink Sink) (*Built, error) {
	for try := 1; ; try++ {
		copies := newCopies(r.Image, sink)
		store := &blobStore{sink: sink, kept: map[digest.Digest][]byte{}}
		res, err := e.solve(ctx, &r, []bkclient.ExportEntry{{Type: bkclient.ExporterOCI, Attrs: map[string]string{"tar": "false"}, OutputStore: store}}, copies, try > 1)
		copies.end()
		if err == nil {
			return store.collect(ctx, res.ExporterResponse)
		}
		failed := store.failure()
		if failed == nil {
			return nil, err
		}
		var temporary interface{ Temporary() bool }
		if ctx.Err() != nil || try == maxExports || !errors.As(failed, &temporary) || !temporary.Temporary() {
			return nil, failed
		}
		r.Note(fmt.Sprintf("a layer's upload broke off (%v): sending the rest again", failed))
		select {
		case <-time.After(time.Duration(try) * time.Second):
		case <-ctx.Done():
		}
	}
}

// collect walks from the root to the manifests, and sends the configs.
func (s *blobStore) collect(ctx context.Context, response map[string]string) (*Built, error) {
	raw, err := base64.StdEncoding.DecodeString(response["containerimage.descriptor"])
	if err != nil {
		return nil, fmt.Errorf("the engine's answer describes no image: %w", err)
	}
	var root ocispec.Descriptor
	if err := json.Unmarshal(raw, &root); err != nil {
		return nil, fmt.Errorf("the engine's answer describes no image: %w", err)
	}
	b := &Built{}
	return b, s.walk(ctx, root, b)
}

func (s *blobStore) walk(ctx context.Context, d ocispec.Descriptor, b *Built) error {
	data, ok := s.kept[d.Digest]
	if !ok {
		return fmt.Errorf("the engine did not hand over the manifest %s", d.Digest)
	}
	var m struct {
		MediaType string               `json:"mediaType"`
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    ocispec.Descriptor   `json:"config"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if m.MediaType == "" {
		m.MediaType = d.MediaType
	}
	for _, child := range m.Manifests {
		if err := s.walk(ctx, child, b); err != nil {
			return err
		}
	}
	if m.Config.Digest != "" {
		if err := putBytes(ctx, s.sink, m.Config.Digest, s.kept[m.Config.Digest]); err != nil {
			return err
		}
	}
	b.Manifests = append(b.Manifests, Manifest{MediaType: m.MediaType, Digest: d.Digest, Data: data})
	return nil
}

// solve runs BuildKit's Dockerfile frontend. again leaves out what would
// build anew what has just been built.
func (e *Engine) solve(ctx context.Context, r *Request, exports []bkclient.ExportEntry, copies *copies, again bool) (*bkclient.SolveResponse, error) {
	opt, err := e.solveOpt(r)
	if err != nil {
		return nil, err
	}
	if again {
		delete(opt.FrontendAttrs, "no-cache")
	}
	opt.Exports = exports
	log := newStepLog()
	copying, stop := context.WithCancel(ctx)
	status := make(chan *bkclient.SolveStatus)
	drained := make(chan struct{})
	go func() { // until it is closed, whatever became of ctx
		defer close(drained)
		for s := range status {
			log.add(s)
			r.bases(copying, s, copies)
			r.Status(s)
		}
	}()
	res, err := e.bk.Solve(ctx, nil, opt, status)
	<-drained
	copies.stop = stop
	if err != nil {
		copies.end()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if grpcerrors.Code(err) == codes.Unavailable {
			return nil, &UnreachableError{Endpoint: e.Endpoint, Lost: true, Err: err}
		}
		return nil, newBuildError(r.Image, err, log)
	}
	return res, nil
}

// fromStep is how BuildKit names the step that takes a base image.
var fromStep = regexp.MustCompile(`FROM (\S+@sha256:[0-9a-f]{64})`)

// bases hears of base images from the steps of a build. The one whose layers
// the image ends up with is on its way to the registry while the rest is built;
// what cannot be copied, the engine sends.
func (r *Request) bases(ctx context.Context, s *bkclient.SolveStatus, copies *copies) {
	if r.Bases == nil {
		return
	}
	for _, v := range s.Vertexes {
		m := fromStep.FindStringSubmatch(v.Name)
		if m == nil {
			continue
		}
		ref := m[1]
		// One platform is copied: that of the image, or of the engine, which
		// lends its loopback and so its processor.
		platform := "linux/" + runtime.GOARCH
		switch len(r.Image.Build.Platforms) {
		case 0:
		case 1:
			platform = r.Image.Build.Platforms[0]
		default:
			return
		}
		r.Bases.Seen(ref, platform)
		if name, _, _ := strings.Cut(ref, "@"); copies.sink != nil && name == copies.base && !copies.begun {
			copies.begun = true
			copies.wg.Go(func() { _ = r.Bases.Copy(ctx, ref, platform, copies.sink.Put) })
		}
	}
}

// copies are the layers of a base image on their way.
type copies struct {
	sink  Sink   // nil where nothing is pushed
	base  string // the base image that counts
	begun bool
	wg    sync.WaitGroup
	stop  context.CancelFunc
}

// end stops what nobody waits for any more: a layer that the image needs has
// been waited for, by whoever would have sent it.
func (c *copies) end() {
	if c.stop != nil {
		c.stop()
	}
	c.wg.Wait()
}

func newCopies(img plan.Image, sink Sink) *copies {
	c := &copies{sink: sink}
	if sink == nil || plan.Remote(img.Build.Context) {
		return c
	}
	if d, err := ReadDockerfile(img); err == nil {
		c.base = d.Base(img.Build.Target)
	}
	return c
}

func (e *Engine) solveOpt(r *Request) (bkclient.SolveOpt, error) {
	b := r.Image.Build
	if err := e.supports(r); err != nil {
		return bkclient.SolveOpt{}, err
	}
	attrs := map[string]string{}
	mounts := map[string]fsutil.FS{}
	opt := bkclient.SolveOpt{Frontend: "dockerfile.v0", FrontendAttrs: attrs, LocalMounts: mounts, SharedKey: sharedKey(folders(r.Image)...)}
	var err error
	if opt.Session, err = r.attachables(); err != nil {
		return opt, err
	}
	if plan.Remote(b.Context) {
		attrs["context"], attrs["filename"] = b.Context, b.Dockerfile
	} else if err := e.localContext(r, &opt); err != nil {
		return opt, err
	}
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	set("target", b.Target)
	set("platform", strings.Join(b.Platforms, ","))
	hosts, err := e.extraHosts(r)
	if err != nil {
		return opt, err
	}
	set("add-hosts", strings.Join(hosts, ","))
	if b.Network != "default" {
		set("force-network-mode", b.Network)
	}
	if b.Network == "host" {
		opt.AllowedEntitlements = []string{"network.host"}
	}
	if b.ShmSize > 0 {
		attrs["shm-size"] = strconv.FormatInt(b.ShmSize, 10)
	}
	if b.NoCache {
		attrs["no-cache"] = ""
	}
	if b.Pull {
		attrs["image-resolve-mode"] = "pull"
	}
	for k, v := range b.Args {
		attrs["build-arg:"+k] = v
	}
	for k, v := range b.Labels {
		attrs["label:"+k] = v
	}
	for name, where := range b.AdditionalContexts {
		if plan.Remote(where) {
			attrs["context:"+name] = where
			continue
		}
		mount := name
		if name == contextName || name == dockerfileName {
			mount = "_" + name
		}
		if mounts[mount], err = localFS(where); err != nil {
			return opt, err
		}
		attrs["context:"+name] = "local:" + mount
	}
	for _, c := range b.CacheFrom {
		opt.CacheImports = append(opt.CacheImports, cacheEntry(c))
	}
	for _, c := range b.CacheTo {
		opt.CacheExports = append(opt.CacheExports, cacheEntry(c))
	}
	return opt, nil
}

// extraHosts puts the address of the engine's host where host-gateway stands.
func (e *Engine) extraHosts(r *Request) ([]string, error) {
	hosts := slices.Clone(r.Image.Build.ExtraHosts)
	for i, h := range hosts {
		name, ip, _ := strings.Cut(h, "=")
		if ip != plan.HostGateway {
			continue
		}
		workers, err := e.bk.ListWorkers(context.Background())
		if err != nil {
			return nil, err
		}
		for _, w := range workers {
			if ip := w.Labels["org.mobyproject.buildkit.worker.moby.host-gateway-ip"]; ip != "" {
				hosts[i] = name + "=" + ip
			}
		}
		if strings.HasSuffix(hosts[i], plan.HostGateway) {
			return nil, &UnsupportedError{Image: r.Image.Name(), Key: "extra_hosts with host-gateway", Engine: e.String(), Fix: "it needs a Docker engine of 23.0 or later; or write the address itself"}
		}
	}
	return hosts, nil
}

// localContext mounts the context and the folder of the Dockerfile, which may
// lie outside it. A context that siblings share comes through their session.
func (e *Engine) localContext(r *Request, opt *bkclient.SolveOpt) error {
	b := r.Image.Build
	fs, err := localFS(b.Context)
	if err != nil {
		return err
	}
	shared, err := r.Contexts.session(r.Image, fs)
	if err != nil {
		return err
	}
	opt.LocalMounts[contextName] = fs
	if shared != "" {
		opt.FrontendAttrs["local-sessionid:"+contextName] = shared
	}
	if opt.LocalMounts[dockerfileName], err = localFS(filepath.Dir(b.Dockerfile)); err != nil {
		return err
	}
	opt.FrontendAttrs["filename"] = filepath.Base(b.Dockerfile)
	return nil
}

// cacheEntry reads "type=registry,ref=…" or a plain image name, as Compose does.
func cacheEntry(text string) bkclient.CacheOptionsEntry {
	if !strings.Contains(text, "=") {
		return bkclient.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": text}}
	}
	c := bkclient.CacheOptionsEntry{Attrs: map[string]string{}}
	for _, kv := range strings.Split(text, ",") {
		k, v, _ := strings.Cut(kv, "=")
		if k == "type" {
			c.Type = v
			continue
		}
		c.Attrs[k] = v
	}
	return c
}

func (e *Engine) sessionDialer() session.Dialer {
	if e.docker == nil {
		return grpchijack.Dialer(e.bk.ControlClient())
	}
	return func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
		return e.docker.DialHijack(ctx, "/session", proto, meta)
	}
}

// supports refuses what the engine cannot do, and warns of what it would
// silently leave out.
func (e *Engine) supports(r *Request) error {
	b := r.Image.Build
	fail := func(key, fix string) error {
		return &UnsupportedError{Image: r.Image.Name(), Key: key, Engine: e.String(), Fix: fix}
	}
	if e.Store == Classic {
		if len(b.Platforms) > 1 {
			return fail("platforms with more than one entry", "turn on the containerd image store (\"features\": {\"containerd-snapshotter\": true} in /etc/docker/daemon.json), or set BUILDKIT_HOST to a buildkitd")
		}
		for _, c := range b.CacheTo {
			if t := cacheEntry(c).Type; t != "inline" {
				return fail("cache_to of type "+t, "use type=inline, turn on the containerd image store, or set BUILDKIT_HOST to a buildkitd")
			}
		}
	}
	if e.Store == Classic && e.before(23, 0) {
		if len(b.AdditionalContexts) > 0 {
			return fail("additional_contexts", "it needs Docker engine 23.0 or later")
		}
		if b.ShmSize > 0 {
			r.Note(fmt.Sprintf("warning: %s ignores shm_size, which needs Docker engine 23.0 or later", e))
		}
		if len(b.CacheTo) > 1 {
			return fail("cache_to with more than one entry", "it needs Docker engine 23.0 or later")
		}
	}
	return nil
}

// UnsupportedError names a key that the engine cannot do.
type UnsupportedError struct{ Image, Key, Engine, Fix string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: %s cannot do %s; %s", e.Image, e.Engine, e.Key, e.Fix)
}
