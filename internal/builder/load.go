package builder

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// CanLoad connects to the engine that the user's docker commands reach, which Load puts
// images into. Its error is an *endpoint.UnreachableError.
func (e *Engine) CanLoad(ctx context.Context) error {
	if e.loadsInto != nil {
		return nil
	}
	if e.docker != nil && e.private == nil {
		e.loadsInto = e.docker
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	fail := func(err error) error {
		return &endpoint.UnreachableError{Endpoint: e.user, Err: err,
			Fix: "gates run images by docker: start a Docker engine, name it by DOCKER_HOST, or leave gates out"}
	}
	opts, err := e.user.DockerOptions()
	if err != nil {
		return err
	}
	docker, err := client.New(opts...)
	if err != nil {
		return fail(err)
	}
	if _, err := docker.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		_ = docker.Close()
		return fail(err)
	}
	e.loadsInto = docker
	return nil
}

// Load has the user's engine know an image under its first name, as docker run takes it: one
// that was built, without building any of it again, or one that was not, since nothing has
// changed, from the registry. a is nil where nothing is pushed. CanLoad comes before. The ID is
// the engine's. Its error is a *PullError where the registry was asked, and ErrOtherImage where
// another build has taken the name already.
func (e *Engine) Load(ctx context.Context, j Job, a *image.Artifact, built bool) (id string, err error) {
	own := e.private == nil && e.docker != nil // where it was built
	switch {
	case !built && a != nil:
		err = e.pull(ctx, j, a.Root().Digest)
	case own && (e.Store == Classic || j.Keep): // it is there
	case own:
		exports := mobyExport(&j)
		addTimes(&j, exports[0].Attrs)
		_, err = e.solveAgain(ctx, j, func(opt *bkclient.SolveOpt) { opt.Exports = exports })
	default:
		err = e.transfer(ctx, j)
	}
	if err != nil {
		return "", err
	}
	found, err := e.loadsInto.ImageInspect(ctx, j.Refs[0].String())
	switch {
	case err != nil || a == nil || !built:
	case a.EngineID != "" && found.ID != a.EngineID.String():
		err = ErrOtherImage
	case !hasLayers(a, found.RootFS.Layers):
		err = ErrOtherResult
	}
	return found.ID, err
}

// hasLayers compares the layers of what was loaded with those that were pushed. With no_cache
// the engine may have several results of a step, and gives any of them.
func hasLayers(a *image.Artifact, loaded []string) bool {
	return len(a.DiffIDs) == 0 || slices.ContainsFunc(a.DiffIDs, func(layers []digest.Digest) bool {
		return slices.EqualFunc(layers, loaded, func(d digest.Digest, s string) bool { return d.String() == s })
	})
}

// CheckLoaded is ErrOtherImage where the name of a Load stands for another image in the user's
// engine. A gate may have removed the image.
func (e *Engine) CheckLoaded(ctx context.Context, j Job, id string) error {
	found, err := e.loadsInto.ImageInspect(ctx, j.Refs[0].String())
	switch {
	case errdefs.IsNotFound(err):
		return nil
	case err == nil && found.ID != id:
		return ErrOtherImage
	}
	return err
}

// ErrOtherImage is for a name that another build on the same Docker engine has given to its own
// image.
var ErrOtherImage = errors.New("another build on this Docker engine has the same tag, which names its image now")

// ErrOtherResult is for a load that gave another image than the one that was pushed.
var ErrOtherResult = errors.New("the engine gives the result of another build of the same steps, as no_cache and max_age leave several")

// addTimes has an export give the files the times that the pushed image has.
func addTimes(j *Job, attrs map[string]string) {
	for _, key := range []string{"rewrite-timestamp", "source-date-epoch"} {
		if v, ok := exportAttrs(j.Image.Build)[key]; ok {
			attrs[key] = v
		}
	}
}

// A PullError is an image that the user's engine could not pull.
type PullError struct {
	Ref image.Ref
	Err error
}

func (e *PullError) Error() string { return fmt.Sprintf("docker pull %s: %v", e.Ref, e.Err) }
func (e *PullError) Unwrap() error { return e.Err }

// transfer has BuildKit write an image as docker save does, and the user's engine read it.
func (e *Engine) transfer(ctx context.Context, j Job) error {
	if len(j.Image.Build.Platforms) > 1 {
		platform, err := e.Platform(ctx) // an archive for docker load has one
		if err != nil {
			return err
		}
		j.Image.Build.Platforms = []string{platform}
	}
	r, w := io.Pipe()
	loaded := make(chan error, 1)
	go func() {
		err := e.load(ctx, r)
		_ = r.CloseWithError(cmp.Or(err, errors.New("the engine has read enough")))
		loaded <- err
	}()
	attrs := map[string]string{"name": j.Refs[0].String()}
	addTimes(&j, attrs)
	_, err := e.solveAgain(ctx, j, func(opt *bkclient.SolveOpt) {
		opt.Exports = []bkclient.ExportEntry{{Type: bkclient.ExporterDocker, Attrs: attrs,
			Output: func(map[string]string) (io.WriteCloser, error) { return w, nil }}}
	})
	_ = w.CloseWithError(cmp.Or(err, io.EOF))
	return cmp.Or(<-loaded, err)
}

func (e *Engine) load(ctx context.Context, r io.Reader) error {
	res, err := e.loadsInto.ImageLoad(ctx, r, client.ImageLoadWithQuiet(true))
	if err != nil {
		return fmt.Errorf("docker load: %w", err)
	}
	defer res.Close()
	if err := streamError(res); err != nil {
		return fmt.Errorf("docker load: %w", err)
	}
	return nil
}

// pull has the user's engine take an image from the registry.
func (e *Engine) pull(ctx context.Context, j Job, root digest.Digest) error {
	ref := j.Refs[0].ByDigest(root)
	var auth string
	if a, ok := j.Login(ctx, ref.Registry); ok {
		data, err := json.Marshal(registry.AuthConfig{Username: a.Username, Password: a.Password.Reveal(),
			ServerAddress: ref.Registry})
		if err != nil {
			return err
		}
		auth = base64.URLEncoding.EncodeToString(data)
	}
	other, err := e.pullPlatform(ctx, j.Image)
	if err != nil {
		return err
	}
	res, err := e.loadsInto.ImagePull(ctx, ref.String(), client.ImagePullOptions{RegistryAuth: auth, Platforms: other})
	if err == nil {
		err = streamError(res)
		_ = res.Close()
	}
	if err != nil {
		return &PullError{ref, err}
	}
	_, err = e.loadsInto.ImageTag(ctx, client.ImageTagOptions{Source: ref.String(), Target: j.Refs[0].String()})
	return err
}

// pullPlatform is the platform to pull of an image that has not the engine's own, none where it has.
func (e *Engine) pullPlatform(ctx context.Context, img plan.Image) ([]ocispec.Platform, error) {
	if len(img.Build.Platforms) == 0 {
		return nil, nil
	}
	name, err := e.Platform(ctx)
	if err != nil {
		return nil, err
	}
	own, err := platforms.Parse(name)
	if err != nil {
		return nil, err
	}
	for _, p := range img.Build.Platforms {
		if has, err := platforms.Parse(p); err != nil || platforms.Only(own).Match(has) {
			return nil, err
		}
	}
	first, err := platforms.Parse(img.Build.Platforms[0])
	return []ocispec.Platform{first}, err
}

// streamError reads the news of an engine, whose failure is one of them.
func streamError(r io.Reader) error {
	for d := json.NewDecoder(r); ; {
		var news struct {
			Error string `json:"error"`
		}
		switch err := d.Decode(&news); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case news.Error != "":
			return errors.New(news.Error)
		}
	}
}

// ErrOutdated ends what should take a build from the engine's cache, and would have to run
// steps of it again.
var ErrOutdated = errors.New("steps of it would have to run once more, since files of the context have changed meanwhile, or the engine has cleared its cache")

// solveAgain asks for a build that has ended well once more, for what set adds to it. All of
// it comes from the engine's cache.
func (e *Engine) solveAgain(ctx context.Context, j Job, set func(*bkclient.SolveOpt)) (*bkclient.SolveResponse, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	j.Image.Build.NoCache, j.Image.Build.CacheTo, j.Image.Build.Pull, j.again = false, nil, false, true
	bases, err := j.waitForBases(ctx)
	if err != nil {
		return nil, err
	}
	opt, err := e.solveOpt(ctx, &j)
	if err == nil {
		err = bases.addTo(&opt)
	}
	if err != nil {
		return nil, err
	}
	set(&opt)
	others := bases.steps() // which have run in this very run
	open := j.result.current()
	if open != nil {
		maps.Copy(others, open.steps)
	}
	status := make(chan *bkclient.SolveStatus)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		fetches, begun := newCachedFetches(), map[digest.Digest]bool{}
		for s := range status {
			news := buildStatus(withoutSteps(e.started.later(s, begun), others))
			fetches.rename(news)
			for _, v := range news.Steps {
				if v.Kind == progress.Instruction && v.Completed != nil && !v.Cached && v.Error == "" {
					cancel(ErrOutdated)
				}
			}
			if len(news.Output) > 0 { // a step runs
				cancel(ErrOutdated)
			}
		}
	}()
	var res *bkclient.SolveResponse
	if open != nil {
		res, err = e.export(ctx, open, opt, status)
	} else {
		res, err = e.bk.Solve(ctx, nil, opt, status)
	}
	<-drained
	if ctx.Err() != nil { // also where it ended before it could be stopped
		return nil, context.Cause(ctx)
	}
	return res, err
}
