package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
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

const (
	maxGateOutput = 20       // lines that an error has
	maxGateLine   = 10 << 10 // bytes of one that has no end yet
	// gateGrace is what a gate has to end by itself when it must.
	gateGrace = 5 * time.Second
	maxLoads  = 4 // images at once
)

// runGates has the user's engine know the images, and runs the plan's gates, one after the
// other. The first that fails ends the run.
func (r *run) runGates(ctx context.Context, images []Pushed) error {
	if len(r.plan.Gates) == 0 {
		return nil
	}
	span := r.deps.Progress.Begin("", report.Gate, "load the images for the gates", 0)
	err := r.loadImages(ctx, images)
	span.End(err)
	for i := 0; i < len(r.plan.Gates) && err == nil; i++ {
		err = r.runGate(ctx, r.plan.Gates[i], i, images)
	}
	return err
}

func (r *run) loadImages(ctx context.Context, images []Pushed) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxLoads)
	for i, j := range r.jobs {
		g.Go(func() error {
			var unchanged digest.Digest // the engine may not have it
			if a := images[i].Artifact; a != nil && len(images[i].Steps) == 0 {
				unchanged = a.Root().Digest
			}
			err := r.engine.Load(ctx, j, unchanged)
			if err != nil && ctx.Err() == nil {
				err = fmt.Errorf("cannot load the image for the gates: %w", err)
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
	cmd := exec.CommandContext(limited, "/bin/sh", "-c", gate.Command)
	cmd.Dir, cmd.Env = r.plan.Directory, append(r.deps.Environ, gateVariables(images)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = gateGrace
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has left in the background
	}
	why := ""
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		why = "stopped"
	case limited.Err() != nil:
		why = "it had not ended after " + format.Duration(limit)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		why = fmt.Sprintf("it ended with exit code %d", exit.ExitCode())
	case errors.Is(err, exec.ErrWaitDelay): // it ended well, and something that it started holds its output
		err = nil
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
	if len(data) == 0 {
		return
	}
	lines := strings.Split(l.partial+string(data), "\n")
	l.partial = lines[len(lines)-1]
	if len(l.partial) > maxGateLine {
		l.partial = l.partial[:maxGateLine]
	}
	l.last = append(l.last, lines[:len(lines)-1]...)
	l.last = l.last[max(0, len(l.last)-maxGateOutput):]
	l.progress.Status("", &progress.BuildStatus{Output: []progress.StepOutput{{Step: l.step.ID, Stream: 1, Data: data,
		Time: time.Now()}}})
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
