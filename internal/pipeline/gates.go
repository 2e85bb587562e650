package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// A GateError is a gate that has failed.
type GateError struct {
	Gate   plan.Gate
	Why    string   // "it ended with exit code 1"
	Output []string // its last lines
}

func (e *GateError) Error() string {
	return fmt.Sprintf("the gate %q failed: %s", e.Gate.Command, e.Why)
}

// A LoadError is an image that gates cannot have.
type LoadError struct{ Err error }

func (e *LoadError) Error() string { return "cannot load the image for the gates: " + e.Err.Error() }
func (e *LoadError) Unwrap() error { return e.Err }

const (
	maxGateOutput = 20       // lines that an error has
	maxGateLine   = 10 << 10 // bytes
	maxGateLog    = 4 << 20  // bytes that are shown
	maxLoads      = 4        // images at once
)

// gateGrace is what a gate has to end by itself when it must.
const gateGrace = 5 * time.Second

// runGates has the user's engine know the images, and runs the plan's gates, one after the
// other. The first that fails ends the run.
func (r *run) runGates(ctx context.Context, images []Pushed) error {
	if len(r.plan.Gates) == 0 {
		return nil
	}
	span := r.deps.Progress.Begin("", report.Gate, "load the images for the gates", 0)
	ids := make([]string, len(r.jobs)) // by which the engine knows the images
	err := r.eachImage(ctx, func(ctx context.Context, i int) (err error) {
		ids[i], err = r.engine.Load(ctx, r.jobs[i], images[i].Artifact, len(images[i].Steps) > 0)
		return err
	})
	span.End(err)
	for i := 0; i < len(r.plan.Gates) && err == nil; i++ {
		if err = r.runGate(ctx, r.plan.Gates[i], i, images); err != nil {
			break
		}
		// A gate knows an image by its tag, which a run beside this one may have moved.
		err = r.eachImage(ctx, func(ctx context.Context, i int) error {
			return r.engine.CheckLoaded(ctx, r.jobs[i], ids[i])
		})
	}
	return err
}

// eachImage calls f for each job, some at once. A failure is a *LoadError of the image.
func (r *run) eachImage(ctx context.Context, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxLoads)
	for i, j := range r.jobs {
		g.Go(func() error {
			err := f(ctx, i)
			if err != nil && ctx.Err() == nil {
				err = &LoadError{err}
			}
			return wrap(j.Image, err)
		})
	}
	return g.Wait()
}

// runGate runs one gate. It is the leader of a process group, which ends with it.
func (r *run) runGate(ctx context.Context, gate plan.Gate, n int, images []Pushed) error {
	limit := time.Duration(gate.Timeout) * time.Second
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	log := r.newGateLog(gate, n)
	err := runGroup(limited, gate.Command, r.plan.Directory, append(r.deps.Environ, gateVariables(images)...), log)
	why := ""
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		why = "stopped"
	case limited.Err() != nil:
		why = "it had not ended after " + format.Duration(limit)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		why = fmt.Sprintf("it ended with exit code %d", exit.ExitCode())
	case errors.As(err, &exit):
		why = "it was ended by a signal: " + strings.TrimPrefix(exit.Error(), "signal: ")
	case err != nil:
		why = err.Error()
	}
	log.end(why)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case why != "":
		return &GateError{Gate: gate, Why: why, Output: log.last}
	}
	return nil
}

// gateGroup is the process group of the gate that runs, 0 for none.
var gateGroup atomic.Int64

// KillGate ends the gate that runs at once: for a process that ends at once itself.
func KillGate() {
	if group := gateGroup.Load(); group != 0 {
		_ = syscall.Kill(-int(group), syscall.SIGKILL)
	}
}

// runGroup runs a command of the shell with all that it starts. When its context ends, the
// group has gateGrace to end by itself; when the shell has ended, what it has left is killed.
func runGroup(ctx context.Context, command, dir string, environ []string, out io.Writer) error {
	// The kernel ends the shell with the thread that has started it: this one.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = dir, environ, w, w, gateAttributes()
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return err
	}
	group := cmd.Process.Pid
	gateGroup.Store(int64(group))
	defer gateGroup.Store(0)
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(out, r)
	}()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = syscall.Kill(-group, syscall.SIGTERM)
		awaitGroup(group)
		_ = syscall.Kill(-group, syscall.SIGKILL)
		err = <-ended
	}
	_ = syscall.Kill(-group, syscall.SIGKILL) // what it has left in the background
	select {
	case <-copied:
	case <-time.After(gateGrace): // a process outside of the group holds the output
		_ = r.SetReadDeadline(time.Now())
		<-copied
	}
	return err
}

// awaitGroup waits until nothing of a process group is left, for gateGrace at most.
func awaitGroup(group int) {
	for until := time.Now().Add(gateGrace); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if syscall.Kill(-group, 0) != nil {
			return
		}
	}
}

// gateVariables name the images for gates: ECSBUILD_IMAGE_NAME, and the only one of a run
// ECSBUILD_IMAGE as well.
func gateVariables(images []Pushed) (out []string) {
	if len(images) == 1 {
		out = append(out, "ECSBUILD_IMAGE="+images[0].Refs[0].String())
	}
	for _, p := range images {
		for _, name := range p.Image.Names() {
			out = append(out, "ECSBUILD_IMAGE_"+plan.Variable(name)+"="+p.Refs[0].String())
		}
	}
	return out
}

// gateLog shows a gate as a step of the run. It is what the gate's output is written to.
type gateLog struct {
	progress Progress
	step     progress.BuildStep
	masked   *redact.Stream
	partial  string   // a line that has no end yet
	last     []string // lines
	shown    int      // bytes
}

func (r *run) newGateLog(gate plan.Gate, n int) *gateLog {
	now := time.Now()
	command, more, _ := strings.Cut(strings.TrimSpace(gate.Command), "\n")
	if more != "" {
		command += " …"
	}
	l := &gateLog{progress: r.deps.Progress, masked: r.backends.Masked.Stream(), step: progress.BuildStep{
		ID: digest.FromString(fmt.Sprint("gate ", n)), Name: "gate: " + r.backends.Masked.String(command), Kind: progress.GateStep,
		Started: &now}}
	l.progress.Status("", &progress.BuildStatus{Steps: []progress.BuildStep{l.step}})
	return l
}

func (l *gateLog) Write(data []byte) (int, error) {
	l.show(l.masked.Next(data))
	return len(data), nil
}

func (l *gateLog) show(data []byte) {
	var b bytes.Buffer
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		if room := maxGateLine - len(l.partial); len(line) > room { // a line without an end would be kept whole
			line, rest, ended = data[:room], data[room:], true
		}
		data = rest
		l.partial += string(line)
		b.Write(line)
		if ended {
			b.WriteByte('\n')
			l.last = append(l.last[max(0, len(l.last)-maxGateOutput+1):], l.partial)
			l.partial = ""
		}
	}
	l.shown += b.Len()
	if l.shown > maxGateLog {
		if l.shown-b.Len() > maxGateLog {
			return
		}
		b.WriteString(fmt.Sprintf("\n… what it writes beyond %s is not shown\n", format.Bytes(maxGateLog)))
	}
	if b.Len() > 0 {
		l.progress.Status("", &progress.BuildStatus{Output: []progress.StepOutput{{Step: l.step.ID, Stream: 1, Data: b.Bytes(),
			Time: time.Now()}}})
	}
}

// end says how the gate has ended, "" for well.
func (l *gateLog) end(why string) {
	l.show(l.masked.End())
	if l.partial != "" {
		l.last = append(l.last, l.partial)
	}
	now := time.Now()
	l.step.Completed, l.step.Error, l.step.Canceled = &now, why, why == "stopped"
	l.progress.Status("", &progress.BuildStatus{Steps: []progress.BuildStep{l.step}})
}
