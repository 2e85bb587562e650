package builder

import (
	"cmp"
	"context"
	"errors"
	"net"
	"regexp"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/grpchijack"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/fault"
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
	again         bool   // it was built, and its results are asked for once more

	bases  map[string]*imageResult // the images of the run that it is built on, by the names of the contexts
	result *imageResult            // where it is solved once, nil where it is not
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
// Where the image is built on another one of the run, that one's Build must have begun before;
// its failure is a *BaseError.
func (e *Engine) Build(ctx context.Context, j Job) (a *image.Artifact, err error) {
	defer j.Inputs.Wait()
	defer func() {
		if err != nil && j.result != nil {
			j.result.set(nil, err)
		}
	}()
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

// maxLost is how often a build is begun again whose files BuildKit has lost: without what is lost,
// and then without any cache.
const maxLost = 2

// dockerfileFrontend is BuildKit's own.
const dockerfileFrontend = "dockerfile.v0"

// solve runs BuildKit's Dockerfile frontend.
func (e *Engine) solve(ctx context.Context, j *Job, exports []bkclient.ExportEntry,
	copies *baseCopy) (*bkclient.SolveResponse, error) {
	if _, err := j.waitForBases(ctx); err != nil { // before it takes the place of one of them
		return nil, err
	}
	select {
	case e.solves <- struct{}{}:
		defer func() { <-e.solves }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	own := &slot{slots: e.steps}
	defer own.release()
	lost := 0
	for start := 1; ; start++ {
		bases, err := j.waitForBases(ctx)
		if err != nil {
			return nil, err
		}
		if err := own.acquire(ctx); err != nil {
			return nil, err
		}
		res, err := e.solveOnce(ctx, j, bases, exports, copies, own)
		switch {
		case err == nil || start == maxStarts || ctx.Err() != nil:
			return res, err
		case bases.haveFailed(ctx, err):
			own.release() // which a base may be waiting for, to be built again
		case j.brokenCache(err) && j.result != nil: // others may have taken something from it
			return nil, &CacheError{err}
		case j.brokenCache(err):
			j.Note(progress.Warning, (&CacheError{err}).Error())
			j.DropCaches()
		case lostSnapshot(err) != nil && j.result == nil && lost < maxLost:
			j.Note(progress.Info, "the engine has lost the files of a step, as BuildKit may where a build was stopped: building it again")
			if perr := e.forget(ctx, lostSnapshot(err)); perr != nil || lost > 0 {
				j.Image.Build.NoCache = true
			}
			lost++
		case !notBegun(err):
			return res, err
		}
	}
}

// lostSnapshot returns the IDs in BuildKit's cache of a step whose files it has lost, nil for
// another failure. https://github.com/moby/buildkit/pull/6808 is one way to it; an engine that is
// killed between two of its writes keeps such a step for good.
func lostSnapshot(err error) (ids []string) {
	var failed *BuildError
	if !errors.As(err, &failed) || failed.ExitCode != 0 || !missingSnapshot.MatchString(failed.Message()) {
		return nil
	}
	return cacheID.FindAllString(failed.Message(), -1)
}

var (
	missingSnapshot = regexp.MustCompile(`snapshot [a-z0-9]{25} does not exist: not found$`)
	cacheID         = regexp.MustCompile(`\b[a-z0-9]{25}\b`)
)

// forget removes records from BuildKit's cache.
func (e *Engine) forget(ctx context.Context, ids []string) error {
	var filter []string
	for _, id := range ids {
		filter = append(filter, "id=="+id)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return e.bk.Prune(ctx, nil, bkclient.PruneAll, bkclient.WithFilter(filter))
}

// notBegun says that BuildKit has given a build up before it began.
func notBegun(err error) bool {
	return strings.Contains(err.Error(), "failed to receive status") && strings.Contains(err.Error(), "no such job")
}

func (e *Engine) solveOnce(ctx context.Context, j *Job, bases baseSolves, exports []bkclient.ExportEntry,
	copies *baseCopy, own *slot) (*bkclient.SolveResponse, error) {
	opt, err := e.solveOpt(ctx, j)
	if err == nil {
		err = bases.addTo(&opt)
	}
	if err != nil {
		return nil, err
	}
	opt.Exports = exports
	solving, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pulls := newPullWatch(j.Image.Name(), cancel)
	defer pulls.end()
	defer e.untilLost(cancel)()
	copying, stop := context.WithCancel(ctx)
	reader := &statusReader{ctx: ctx, engine: e, job: j, log: newStepLog(j.Masked), copying: copying,
		copies: copies, pulls: pulls, slot: own}
	res, err := e.request(ctx, solving, j, opt, bases.steps(), reader)
	if before := copies.stop; before != nil { // of a build that was started again
		copies.stop = func() { before(); stop() }
	} else {
		copies.stop = stop
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if solving.Err() != nil {
			return nil, context.Cause(solving)
		}
		if grpcerrors.Code(err) == codes.Unavailable {
			return nil, &endpoint.UnreachableError{Endpoint: e.Endpoint, Lost: true, Err: err}
		}
		if nerr := unreadableName(j.Image, err); nerr != nil {
			return nil, nerr
		}
		if strings.Contains(err.Error(), "invalid input "+missingPlatform) {
			return nil, &fault.Error{
				What: j.Image.Name() + ": its Dockerfile takes another platform of an image of the run than that is built for",
				Why:  "FROM --platform=$BUILDPLATFORM, for one, takes the engine's",
				Fix:  "add that platform to platforms of the image that it is built on",
			}
		}
		return nil, newBuildError(j, err, reader.log)
	}
	return res, nil
}

// request has BuildKit do what opt says, as long as solving lasts. What others build on lasts as
// long as ctx.
func (e *Engine) request(ctx, solving context.Context, j *Job, opt bkclient.SolveOpt, others map[digest.Digest]bool,
	reader *statusReader) (*bkclient.SolveResponse, error) {
	if j.result == nil {
		status, wait := reader.follow(others)
		defer wait()
		return e.bk.Solve(solving, nil, opt, status)
	}
	s := j.result.current()
	if s == nil {
		var err error
		s, err = e.open(ctx, opt, func() (chan *bkclient.SolveStatus, func()) { return reader.follow(others) })
		if err != nil {
			return nil, err
		}
		j.result.set(s, nil)
	}
	if len(opt.Exports)+len(opt.CacheExports) == 0 {
		return &bkclient.SolveResponse{}, s.wait(solving)
	}
	status, wait := reader.follow(s.steps)
	defer wait()
	res, err := e.export(solving, s, opt, status)
	if err != nil {
		err = cmp.Or(s.wait(solving), err) // the first of which names the step
	}
	return res, err
}

// statusReader reads the status of the solves of one build, for all who want to know of its steps.
type statusReader struct {
	ctx     context.Context
	engine  *Engine
	job     *Job
	log     *stepLog
	copying context.Context // of the base image's layers
	copies  *baseCopy
	pulls   *pullWatch
	slot    *slot
}

// follow reads the status of a solve until that is closed, whatever becomes of the context,
// without the steps of others. wait waits for that.
func (r *statusReader) follow(others map[digest.Digest]bool) (status chan *bkclient.SolveStatus, wait func()) {
	j, masking, fetches := r.job, newMasking(r.job.Masked), newCachedFetches()
	status = make(chan *bkclient.SolveStatus)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for s := range status {
			r.engine.started.note(s)
			r.pulls.observe(s)
			for _, v := range s.Vertexes {
				step := parseStep(v.Name)
				j.lostCache(v, step)
				if step.exports && v.Started != nil {
					r.slot.release()
				}
				j.observeBase(r.copying, step, r.copies)
				j.Inputs.Observe(r.ctx, cmp.Or(step.base, step.frontend), step.fetches)
			}
			update := buildStatus(withoutSteps(s, others))
			fetches.rename(update)
			namePart(update, j.Image.Part)
			masking.mask(update)
			r.log.add(update)
			j.Steps.Observe(update)
			j.Status(update)
		}
	}()
	return status, func() { <-drained }
}

func (e *Engine) sessionDialer() session.Dialer {
	if e.docker == nil {
		return grpchijack.Dialer(e.bk.ControlClient())
	}
	return func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
		return e.docker.DialHijack(ctx, "/session", proto, meta)
	}
}
