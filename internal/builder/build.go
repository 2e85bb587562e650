package builder

import (
	"cmp"
	"context"
	"net"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/grpchijack"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// A Job is one image to build, and all that its build needs.
type Job struct {
	Image      plan.Image
	Refs       []image.Ref      // what its tags will be; the first is deployed
	Dockerfile *dockerfile.File // nil where the context is fetched
	Keep       bool             // leave the image in the engine and send it nowhere
	Store      image.Store      // takes the blobs, unless Keep is set
	Excluded   []string         // files of the run that no context has, absolute

	Login   Login
	Secrets map[string]plan.Secret // by the id that RUN --mount names
	Masked  *redact.Set            // secrets that Status does not tell
	Bases   image.Bases            // nil for none
	State   *hoststate.State
	Inputs  *fingerprint.Inputs // what the image says of itself; nil for nothing

	Cache       CacheStatus // of the image's own cache
	CacheFolder string      // of cache: local, absolute
	CacheInUse  bool        // another run reads that folder: nothing is deleted from it
	Steps       *Steps      // what the build did

	Status func(*progress.BuildStatus)
	Note   progress.NoteFunc // lines for the user
	Begin  func(kind report.Kind, name string) *progress.Span

	sharedContext string // the key of the session that sends it, "" for the job's own
}

// names are what the engine calls the image, where the engine keeps images.
func (j *Job) names() string {
	var names []string
	for _, r := range j.Refs {
		names = append(names, r.String())
	}
	return strings.Join(names, ",")
}

// Build builds an image and sends its blobs to the job's Store, or leaves it in the
// engine under its names, without an artifact.
func (e *Engine) Build(ctx context.Context, j Job) (*image.Artifact, error) {
	defer j.Inputs.Wait()
	switch {
	case j.Keep:
		return nil, e.buildAndKeep(ctx, j)
	case e.Store == Classic:
		return e.buildAndPush(ctx, j)
	}
	return e.buildAndExport(ctx, j)
}

// buildAndKeep leaves an image in the engine. A buildkitd has nowhere to leave it.
func (e *Engine) buildAndKeep(ctx context.Context, j Job) error {
	export := mobyExport(&j)
	if e.Store == BuildKitd {
		j.Note(progress.Info, "built and dropped: "+e.String()+" keeps no images")
		export = nil
	}
	j.Image = WithoutExports(j.Image)
	copies := e.newBaseCopy(&j)
	defer copies.end()
	_, err := e.solve(ctx, &j, export, copies)
	return err
}

// maxSolves bounds the builds that one connection carries at once. Each takes two
// streams of the engine's 250; a build whose request waits for one is given up by
// BuildKit after six seconds.
const maxSolves = 100

// maxStarts is how often a build is begun that BuildKit has given up in that way,
// on a machine with too much to do.
const maxStarts = 5

// solve runs BuildKit's Dockerfile frontend.
func (e *Engine) solve(ctx context.Context, j *Job, exports []bkclient.ExportEntry,
	copies *baseCopy) (*bkclient.SolveResponse, error) {
	select {
	case e.solves <- struct{}{}:
		defer func() { <-e.solves }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for start := 1; ; start++ {
		res, err := e.solveOnce(ctx, j, exports, copies)
		switch {
		case err == nil || start == maxStarts || ctx.Err() != nil:
			return res, err
		case j.retryWithoutCache(err):
			j.withoutCaches(err)
		case !notBegun(err):
			return res, err
		}
	}
}

// notBegun says that BuildKit has given a build up before it began.
func notBegun(err error) bool {
	return strings.Contains(err.Error(), "failed to receive status") && strings.Contains(err.Error(), "no such job")
}

func (e *Engine) solveOnce(ctx context.Context, j *Job, exports []bkclient.ExportEntry,
	copies *baseCopy) (*bkclient.SolveResponse, error) {
	opt, err := e.solveOpt(ctx, j)
	if err != nil {
		return nil, err
	}
	opt.Exports = exports
	log, masking, fetches := newStepLog(), newMasking(j.Masked), newCachedFetches()
	copying, stop := context.WithCancel(ctx)
	status := make(chan *bkclient.SolveStatus)
	drained := make(chan struct{})
	go func() { // until it is closed, whatever became of ctx
		defer close(drained)
		for s := range status {
			for _, v := range s.Vertexes {
				step := parseStep(v.Name)
				j.lostCache(v, step)
				j.observeBase(copying, step, copies)
				j.Inputs.Observe(ctx, cmp.Or(step.base, step.frontend), step.fetches)
			}
			news := buildStatus(s)
			fetches.rename(news)
			masking.mask(news)
			log.add(news)
			j.Steps.Observe(news)
			j.Status(news)
		}
	}()
	res, err := e.bk.Solve(ctx, nil, opt, status)
	<-drained
	if before := copies.stop; before != nil { // of a build that was started again
		copies.stop = func() { before(); stop() }
	} else {
		copies.stop = stop
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if grpcerrors.Code(err) == codes.Unavailable {
			return nil, &UnreachableError{Endpoint: e.Endpoint, Lost: true, Err: err}
		}
		if nerr := unreadableName(j.Image, err); nerr != nil {
			return nil, nerr
		}
		return nil, newBuildError(j, err, log)
	}
	return res, nil
}

func (e *Engine) sessionDialer() session.Dialer {
	if e.docker == nil {
		return grpchijack.Dialer(e.bk.ControlClient())
	}
	return func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
		return e.docker.DialHijack(ctx, "/session", proto, meta)
	}
}
