package builder

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// CanLoad connects to the engine that the user's docker commands reach, which Load puts
// images into. Its error is an *UnreachableError.
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
		return &UnreachableError{Endpoint: e.user, Err: err, Fix: "gates run images by docker: start a Docker engine, name it by DOCKER_HOST, or leave gates out"}
	}
	opts, err := e.user.options()
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

// Load has the user's engine know the image of a job under its first name, as docker run
// takes it: one that was built, without building any of it again, or one of the registry,
// which is then given by its digest. CanLoad comes before.
func (e *Engine) Load(ctx context.Context, j Job, pushed digest.Digest) error {
	own := e.private == nil && e.docker != nil // where it was built
	switch {
	case pushed != "":
		return e.pull(ctx, j, pushed)
	case own && (e.Store == Classic || j.Keep):
		return nil // under its names
	case own:
		return e.solveAgain(ctx, j, func(opt *bkclient.SolveOpt) { opt.Exports = mobyExport(&j) })
	}
	return e.transfer(ctx, j)
}

// transfer has BuildKit write an image as docker save does, and the user's engine read it.
func (e *Engine) transfer(ctx context.Context, j Job) error {
	if len(j.Image.Build.Platforms) > 1 {
		_, platform, err := e.worker(ctx) // an archive for docker load has one
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
	err := e.solveAgain(ctx, j, func(opt *bkclient.SolveOpt) {
		opt.Exports = []bkclient.ExportEntry{{Type: bkclient.ExporterDocker, Attrs: map[string]string{"name": j.Refs[0].String()},
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
	return streamError("docker load", res)
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
	res, err := e.loadsInto.ImagePull(ctx, ref.String(), client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		return fmt.Errorf("docker pull: %w", err)
	}
	defer res.Close()
	if err := streamError("docker pull", res); err != nil {
		return err
	}
	_, err = e.loadsInto.ImageTag(ctx, client.ImageTagOptions{Source: ref.String(), Target: j.Refs[0].String()})
	return err
}

// streamError reads the news of an engine, whose failure is one of them.
func streamError(what string, r io.Reader) error {
	for d := json.NewDecoder(r); ; {
		var news struct {
			Error string `json:"error"`
		}
		switch err := d.Decode(&news); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case news.Error != "":
			return fmt.Errorf("%s: %s", what, news.Error)
		}
	}
}

// errOutdated ends what should take a build from the engine's cache, and would have to run
// steps of it again.
var errOutdated = errors.New("steps of it would have to run once more")

// solveAgain asks for a build that has ended well once more, for what set adds to it. All of
// it comes from the engine's cache.
func (e *Engine) solveAgain(ctx context.Context, j Job, set func(*bkclient.SolveOpt)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	j.Image.Build.NoCache, j.Image.Build.CacheTo, j.Image.Build.Pull = false, nil, false
	opt, err := e.solveOpt(ctx, &j)
	if err != nil {
		return err
	}
	set(&opt)
	status := make(chan *bkclient.SolveStatus)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		fetches := newCachedFetches()
		for s := range status {
			news := buildStatus(s)
			fetches.rename(news)
			for _, v := range news.Steps {
				if v.Kind == progress.Instruction && v.Completed != nil && !v.Cached && v.Error == "" {
					cancel(errOutdated)
				}
			}
			if len(news.Output) > 0 { // a step runs
				cancel(errOutdated)
			}
		}
	}()
	_, err = e.bk.Solve(ctx, nil, opt, status)
	<-drained
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
