package builder

import (
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
)

// A BuildError is a build that failed: where in the Dockerfile, at which step,
// and what the step said last.
type BuildError struct {
	Image      string
	Dockerfile string
	Step       string            // "[2/4] RUN composer install", "" where none is known
	ExitCode   uint32            // of a RUN, 0 for other failures
	Lines      []dockerfile.Line // of the Dockerfile, around the step
	Output     []string
	Err        error
}

func (e *BuildError) Error() string { return e.Image + ": " + e.Message() }
func (e *BuildError) Unwrap() error { return e.Err }

// Message is BuildKit's sentence without the prefixes that it gathers on the way.
func (e *BuildError) Message() string {
	msg := e.Err.Error()
	for {
		cut := msg
		for _, p := range []string{"failed to solve: ", "rpc error: code = Unknown desc = ",
			"failed to solve with frontend dockerfile.v0: "} {
			cut = strings.TrimPrefix(cut, p)
		}
		if cut == msg {
			return msg
		}
		msg = cut
	}
}

// unreadableName explains an error of the protocol for a file whose name is not
// UTF-8, which it cannot carry; nil for any other. BuildKit tells of it, or, where that comes
// first, of the context that it then could not load.
func unreadableName(img plan.Image, err error) error {
	if !strings.Contains(err.Error(), "invalid UTF-8") && grpcerrors.Code(err) != codes.Canceled {
		return nil
	}
	var found []string
	for _, dir := range append(slices.Sorted(maps.Values(img.Build.AdditionalContexts)), img.Build.Context) {
		_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && !utf8.ValidString(path) && len(found) < 3 {
				found = append(found, strconv.Quote(path))
			}
			return nil
		})
	}
	if len(found) == 0 {
		return nil
	}
	return &fault.Error{What: img.Name() + ": a file name is not UTF-8: " + strings.Join(found, ", "),
		Why: "BuildKit takes no other names", Fix: "rename it, or leave it out by .dockerignore"}
}

func newBuildError(j *Job, err error, log *stepLog) *BuildError {
	e := &BuildError{Image: j.Image.Name(), Dockerfile: j.Image.Build.Dockerfile, Err: err}
	var v *errdefs.VertexError
	if errors.As(err, &v) {
		e.Step, e.Output = log.of(digest.Digest(v.Digest))
	} else {
		e.Step, e.Output = log.lastFailed()
	}
	var exit *gateway.ExitError
	if errors.As(err, &exit) {
		e.ExitCode = exit.ExitCode
	} else if m := exitCode.FindStringSubmatch(err.Error()); m != nil {
		n, _ := strconv.ParseUint(m[1], 10, 32)
		e.ExitCode = uint32(n)
	}
	for _, src := range errdefs.Sources(err) {
		if src.Info == nil || len(src.Ranges) == 0 {
			continue
		}
		e.Lines = dockerfile.Excerpt(string(src.Info.Data), int(src.Ranges[0].Start.Line),
			int(src.Ranges[len(src.Ranges)-1].End.Line))
		break
	}
	if e.Lines == nil {
		e.Lines = j.Dockerfile.FindStep(e.Step)
	}
	return e
}

// Engines before 23.0 give no types: the exit code is in the words, and the
// line is found by the step's name.
var exitCode = regexp.MustCompile(`exit code: ([0-9]+)$`)

// keepLines is how much of each step's output is kept for an error.
const keepLines = 25

// stepLog keeps the end of each step's output, for the one that fails.
type stepLog struct {
	mu     sync.Mutex
	names  map[digest.Digest]string
	output map[digest.Digest][]string
	lines  progress.OutputLines
	failed digest.Digest
}

func newStepLog(masked *redact.Set) *stepLog {
	return &stepLog{names: map[digest.Digest]string{}, output: map[digest.Digest][]string{},
		lines: progress.NewOutputLines(masked)}
}

func (l *stepLog) add(s *progress.BuildStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range s.Steps {
		l.names[v.ID] = v.Name
		if v.Error != "" && !v.Canceled {
			l.failed = v.ID
		}
	}
	for _, entry := range s.Output {
		l.keep(entry.Step, l.lines.Add("", entry))
	}
}

func (l *stepLog) keep(d digest.Digest, lines []string) {
	all := append(l.output[d], lines...)
	l.output[d] = all[max(0, len(all)-keepLines):]
}

func (l *stepLog) of(d digest.Digest) (step string, output []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(d, l.lines.End("", d))
	output = l.output[d]
	for len(output) > 0 && output[len(output)-1] == "" {
		output = output[:len(output)-1]
	}
	return l.names[d], output
}

func (l *stepLog) lastFailed() (step string, output []string) {
	l.mu.Lock()
	d := l.failed
	l.mu.Unlock()
	return l.of(d)
}
