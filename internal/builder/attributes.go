package builder

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/layer"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/privateengine"
)

func (e *Engine) solveOpt(ctx context.Context, j *Job) (bkclient.SolveOpt, error) {
	b := j.Image.Build
	attrs := map[string]string{}
	mounts := map[string]fsutil.FS{}
	opt := bkclient.SolveOpt{Frontend: dockerfileFrontend, FrontendAttrs: attrs, LocalMounts: mounts,
		SharedKey: sharedKey(folders(j.Image)...), SourcePolicy: e.policy}
	var err error
	if opt.Session, err = j.attachables(); err != nil {
		return opt, err
	}
	if plan.Remote(b.Context) {
		attrs["context"], attrs["filename"] = b.Context, b.Dockerfile
	} else if err := e.localContext(j, &opt); err != nil {
		return opt, err
	}
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	set("target", b.Target)
	set("platform", strings.Join(b.Platforms, ","))
	hosts, err := e.extraHosts(ctx, j)
	if err != nil {
		return opt, err
	}
	set("add-hosts", strings.Join(hosts, ","))
	network := b.Network
	if network == "default" {
		network = ""
	}
	if e.private != nil && network == "" {
		network = "host" // it has no other
	}
	set("force-network-mode", network)
	if network == "host" || j.usesHostNetwork() {
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
	for k, v := range e.proxies {
		if !hasArg(b.Args, k) {
			attrs["build-arg:"+k] = v
		}
	}
	for k, v := range b.Args {
		attrs["build-arg:"+k] = v
	}
	if ns := j.mountNamespace(); ns != "" {
		attrs["build-arg:"+cacheMountNamespace] = ns
	}
	for k, v := range b.Labels {
		attrs["label:"+k] = v
	}
	for name, where := range b.AdditionalContexts {
		if plan.Remote(where) {
			attrs["context:"+name] = j.Inputs.Pin(where)
			continue
		}
		mount := name
		if name == fingerprint.ContextName || name == fingerprint.DockerfileName {
			mount = "_" + name
		}
		if mounts[mount], err = fingerprint.ContextFS(where, j.Excluded, j.Inputs.ContentTimes()); err != nil {
			return opt, err
		}
		attrs["context:"+name] = "local:" + mount
	}
	opt.CacheImports, opt.CacheExports = j.cacheImports(), j.cacheExports()
	return opt, nil
}

// hasArg looks for a build argument; BuildKit takes proxies in either case.
func hasArg(args map[string]string, name string) bool {
	for k := range args {
		if strings.EqualFold(k, name) {
			return true
		}
	}
	return false
}

// WithoutExports leaves out the caches that a build would send away, as a dry run
// does.
func WithoutExports(img plan.Image) plan.Image {
	b := &img.Build
	b.CacheTo = slices.DeleteFunc(slices.Clone(b.CacheTo), func(c string) bool { return cacheEntry(c).Type == "registry" })
	if b.Cache != plan.CacheInline {
		b.Cache = ""
	}
	return img
}

// exportAttrs say how BuildKit compresses layers. Those of base images, and others
// that it has compressed before, it leaves as they are.
// https://github.com/moby/buildkit#imageregistry
func exportAttrs(b plan.Build) map[string]string {
	attrs := map[string]string{"tar": "false"}
	if b.Compression != "" {
		attrs["compression"] = string(b.Compression)
	}
	if b.Compression == plan.Zstd {
		attrs["oci-mediatypes"] = "true"
	}
	if b.CompressionLevel != nil {
		attrs["compression"] = "uncompressed" // they are compressed here, in parallel
	}
	if b.Reproducible {
		attrs["rewrite-timestamp"], attrs["source-date-epoch"] = "true", strconv.FormatInt(b.Epoch().Unix(), 10)
	}
	return attrs
}

// extraHosts puts the address of the engine's host where host-gateway stands.
func (e *Engine) extraHosts(ctx context.Context, j *Job) ([]string, error) {
	hosts := slices.Clone(j.Image.Build.ExtraHosts)
	for i, h := range hosts {
		name, ip, _ := strings.Cut(h, "=")
		if ip != plan.HostGateway {
			continue
		}
		if e.private != nil { // whose steps are on the host's network
			hosts[i] = name + "=127.0.0.1"
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		workers, err := e.bk.ListWorkers(ctx)
		if err != nil {
			return nil, err
		}
		for _, w := range workers {
			if ip := w.Labels["org.mobyproject.buildkit.worker.moby.host-gateway-ip"]; ip != "" {
				hosts[i] = name + "=" + ip
			}
		}
		if strings.HasSuffix(hosts[i], plan.HostGateway) {
			return nil, &UnsupportedError{Image: j.Image.Name(), Key: "extra_hosts with host-gateway", Engine: e.String(),
				Fix: "it needs a Docker engine of 23.0 or later; or write the address itself"}
		}
	}
	return hosts, nil
}

// localContext mounts the context and the folder of the Dockerfile, which may
// lie outside it. A context that siblings share comes through their session.
func (e *Engine) localContext(j *Job, opt *bkclient.SolveOpt) error {
	b := j.Image.Build
	fs, err := fingerprint.ContextFS(b.Context, j.Excluded, j.Inputs.ContentTimes())
	if err != nil {
		return err
	}
	shared, err := e.sessions.get(j, fs)
	if err != nil {
		return err
	}
	opt.LocalMounts[fingerprint.ContextName] = fs
	if shared != "" {
		opt.FrontendAttrs["local-sessionid:"+fingerprint.ContextName] = shared
	}
	if opt.LocalMounts[fingerprint.DockerfileName], err = fingerprint.ContextFS(filepath.Dir(b.Dockerfile), nil,
		j.Inputs.ContentTimes()); err != nil {
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

// Check refuses what the engine cannot do for an image, before anything is built,
// and tells of what it would silently leave out. Its error is an *UnsupportedError,
// or a *fault.Error of what the build needs on this machine.
func (e *Engine) Check(img plan.Image, warn func(string)) error {
	b := img.Build
	fail := func(key, fix string) error {
		return &UnsupportedError{Image: img.Name(), Key: key, Engine: e.String(), Fix: fix}
	}
	// needsBlobs refuses what takes an engine that hands out blobs.
	needsBlobs := func(key, instead string) error {
		return &UnsupportedError{Image: img.Name(), Key: key, Engine: e.String(), Private: true, Fix: instead +
			"use builder: auto or private, turn on the containerd image store (\"features\": {\"containerd-snapshotter\": true} in /etc/docker/daemon.json), or set BUILDKIT_HOST to a buildkitd"}
	}
	if _, err := sshProvider(img); err != nil {
		return err
	}
	if e.Store == Classic {
		if len(b.Platforms) > 1 {
			return needsBlobs("platforms with more than one entry", "")
		}
		for _, c := range b.CacheTo {
			if t := cacheEntry(c).Type; t != "inline" {
				return needsBlobs("cache_to of type "+t, "use type=inline, ")
			}
		}
		if b.Cache == plan.CacheRegistry || b.Cache == plan.CacheLocal {
			return needsBlobs("cache: "+string(b.Cache), "use cache: inline, ")
		}
		if _, own := layer.EncodingOf(b); own && (b.Cache == plan.CacheInline || len(b.CacheTo) > 0) {
			return needsBlobs("an inline cache with compression, compression_level or reproducible", "leave one of them out, ")
		}
	} else if b.Reproducible && e.olderThan(26, 0) {
		return fail("reproducible", "with the containerd image store it needs Docker engine 26.0 or later")
	}
	if e.policy != nil && e.olderThan(23, 0) {
		return fail("a source policy (EXPERIMENTAL_BUILDKIT_SOURCE_POLICY)", "it needs Docker engine 23.0 or later")
	}
	if e.Store == Classic && e.olderThan(23, 0) {
		if len(b.AdditionalContexts)+len(b.ImageContexts) > 0 {
			return fail("additional_contexts", "it needs Docker engine 23.0 or later")
		}
		if b.ShmSize > 0 {
			warn(fmt.Sprintf("%s ignores shm_size, which needs Docker engine 23.0 or later", e))
		}
		if len(b.CacheTo) > 1 {
			return fail("cache_to with more than one entry", "it needs Docker engine 23.0 or later")
		}
	}
	return nil
}

// UnsupportedError names a key that the engine cannot do.
type UnsupportedError struct {
	Image, Key, Engine, Fix string

	Private   bool                            // a private engine can do it
	NoPrivate *privateengine.UnavailableError // why none could be started, nil where none was asked for
}

func (e *UnsupportedError) Error() string {
	text := fmt.Sprintf("%s: %s cannot do %s", e.Image, e.Engine, e.Key)
	if e.NoPrivate != nil {
		text += "; " + e.NoPrivate.Error()
	}
	return text + "; " + e.Fix
}
