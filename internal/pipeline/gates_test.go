package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

func (f *fakeBuilder) CanLoad(context.Context) error { return f.cannotLoad }

func (f *fakeBuilder) Load(_ context.Context, j builder.Job, a *image.Artifact, built bool) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what := "built"
	if !built && a != nil {
		what = "unchanged"
	}
	f.loaded = append(f.loaded, j.Image.Name()+" "+what)
	return "id of " + j.Image.Name(), f.loadFails
}

func (f *fakeBuilder) CheckLoaded(_ context.Context, j builder.Job, id string) error {
	if id != "id of "+j.Image.Name() {
		return builder.ErrOtherImage
	}
	return f.loadedOther
}

func gate(command string) plan.Gate { return plan.Gate{Command: command, Timeout: 60} }

// TestGates run in order in the folder of the sources, and have a variable for each image.
func TestGates(t *testing.T) {
	f := newFixture(t, "app", "web-1")
	f.engine.steps = []progress.BuildStep{{ID: "a", Started: &time.Time{}}}
	f.deps.Environ = []string{"PATH=" + os.Getenv("PATH"), "GREETING=hello"}
	f.plan.Gates = []plan.Gate{gate(`echo "$GREETING $ECSBUILD_IMAGE_APP" > out`), gate(`echo $ECSBUILD_IMAGE_WEB_1 >> out; echo seen; echo "no end" >&2`)}
	if _, err := f.run(t, Options{}); err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(filepath.Join(f.plan.Directory, "out"))
	host := strings.Split(string(out), "/")[0][len("hello "):]
	if want := fmt.Sprintf("hello %s/shop/app:v1\n%s/shop/web-1:v1\n", host, host); err != nil || string(out) != want {
		t.Errorf("%q, %v", out, err)
	}
	slices.Sort(f.engine.loaded)
	if got := fmt.Sprint(f.engine.loaded); got != "[app built web-1 built]" {
		t.Error(got)
	}
	f.said.has(t, "gate: echo $ECSBUILD_IMAGE_WEB_1 >> out; echo seen; echo \"no end\" >&2: \"seen\\nno end\\n\"")
}

// TestGateFails: no tag moves, no further gate runs, and the error has the end of its output.
func TestGateFails(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Gates = []plan.Gate{gate("i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; printf last; exit 3"), gate("touch second")}
	_, err := f.run(t, Options{})
	var e *GateError
	if !errors.As(err, &e) || e.Why != "it ended with exit code 3" || len(e.Output) != maxGateOutput+1 || e.Output[maxGateOutput] != "last" {
		t.Fatalf("%v, %+v", err, e)
	}
	if _, err := os.Stat(filepath.Join(f.plan.Directory, "second")); err == nil || len(f.puts) != 0 {
		t.Errorf("%v, %v", err, f.puts)
	}
	if _, err := os.Stat(f.plan.Definitions[0].File); err == nil {
		t.Error("there is a definitions file")
	}
}

// TestGateEnds: by its limit of time and by a signal, with all that it has started.
func TestGateEnds(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Gates = []plan.Gate{{Command: "sleep 60 & echo $! > pid; wait", Timeout: 1}}
	began := time.Now()
	_, err := f.run(t, Options{})
	var e *GateError
	if !errors.As(err, &e) || e.Why != "it had not ended after 1.0 s" {
		t.Errorf("%v", err)
	}
	if time.Since(began) > 5*time.Second {
		t.Error("it took too long")
	}
	pid, _ := os.ReadFile(filepath.Join(f.plan.Directory, "pid"))
	if state := processState(t, strings.TrimSpace(string(pid))); state != "" && state != "Z" {
		t.Errorf("what the gate has started is in state %s", state)
	}

	f = newFixture(t, "app")
	f.plan.Gates = []plan.Gate{gate("touch started; sleep 60")}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		for _, err := os.Stat(filepath.Join(f.plan.Directory, "started")); err != nil; _, err = os.Stat(filepath.Join(f.plan.Directory, "started")) {
			time.Sleep(time.Millisecond)
		}
		cancel(stopped)
	}()
	if _, err := Run(ctx, f.plan, f.deps, Options{}); !errors.Is(err, stopped) || len(f.puts) != 0 {
		t.Errorf("%v, %v", err, f.puts)
	}
}

// processState is R, S or another letter of /proc, "" for a process that is gone.
func processState(t *testing.T, pid string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	return strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))[0]
}

// TestGateLeavesSomething: a gate that has ended well is not waited for, whatever it left.
func TestGateLeavesSomething(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Gates = []plan.Gate{gate("sleep 60 &")}
	began := time.Now()
	if _, err := f.run(t, Options{}); err != nil {
		t.Error(err)
	}
	if time.Since(began) > gateGrace/2 {
		t.Error("it took too long")
	}
}

// TestGateTrap: what a gate has started may end by itself, also where its shell has ended
// before.
func TestGateTrap(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Gates = []plan.Gate{{Command: `sh -c 'trap "sleep 0.3; touch cleared; exit" TERM; while :; do sleep 0.05; done' & wait`, Timeout: 1}}
	_, err := f.run(t, Options{})
	var e *GateError
	if !errors.As(err, &e) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(f.plan.Directory, "cleared")); err != nil {
		t.Error(err)
	}
}

// TestGateOutput: a line without an end costs neither memory nor time, and there is an end to
// what is shown.
func TestGateOutput(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Gates = []plan.Gate{gate("head -c 20000000 /dev/zero | tr '\\0' x; exit 1")}
	_, err := f.run(t, Options{})
	var e *GateError
	if !errors.As(err, &e) || e.Why != "it ended with exit code 1" || len(e.Output) > maxGateOutput+1 || len(e.Output[0]) > maxGateLine {
		t.Errorf("%v", err)
	}
	shown := 0
	for _, text := range f.said.output {
		shown += len(text)
	}
	if shown < maxGateLog || shown > maxGateLog+100<<10 {
		t.Errorf("%d bytes are shown", shown)
	}
}

// TestKillGate ends a gate that ignores signals.
func TestKillGate(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Gates = []plan.Gate{gate(`trap "" TERM; touch started; sleep 60`)}
	go func() {
		for _, err := os.Stat(filepath.Join(f.plan.Directory, "started")); err != nil; _, err = os.Stat(filepath.Join(f.plan.Directory, "started")) {
			time.Sleep(time.Millisecond)
		}
		for gateGroup.Load() == 0 { // the gate may be faster than the run that has started it
			time.Sleep(time.Millisecond)
		}
		KillGate()
	}()
	_, err := f.run(t, Options{})
	var e *GateError
	if !errors.As(err, &e) || e.Why != "it was ended by a signal: killed" {
		t.Errorf("%v", err)
	}
}

// TestGateNeeds: what a gate needs is asked for before anything is built.
func TestGateNeeds(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Gates, f.engine.cannotLoad = []plan.Gate{gate("true")}, errors.New("no docker here")
	if _, err := f.run(t, Options{}); err == nil || !strings.Contains(err.Error(), "no docker here") || len(f.engine.built) != 0 {
		t.Errorf("%v, %v", err, f.engine.built)
	}
	f = newFixture(t, "app")
	f.plan.Gates, f.engine.loadFails = []plan.Gate{gate("touch ran")}, errors.New("full")
	if _, err := f.run(t, Options{}); err == nil || err.Error() != "app: cannot load the image for the gates: full" || len(f.puts) != 0 {
		t.Errorf("%v, %v", err, f.puts)
	}
	f = newFixture(t, "app")
	if _, err := f.run(t, Options{}); err != nil || f.engine.loaded != nil {
		t.Errorf("%v, %v", err, f.engine.loaded)
	}
}

// TestGateSecrets are masked, also where a gate writes one in two pieces.
func TestGateSecrets(t *testing.T) {
	f := newFixture(t, "app")
	f.masked.Add("hunter2-hunter2")
	f.plan.Gates = []plan.Gate{gate("printf hunter2; sleep 0.1; echo -hunter2; exit 1")}
	_, err := f.run(t, Options{})
	var e *GateError
	if !errors.As(err, &e) || strings.Contains(fmt.Sprint(e.Output, f.said.lines), "hunter2-hunter2") || !strings.Contains(fmt.Sprint(e.Output), "[redacted]") {
		t.Errorf("%+v, %q", e, f.said.lines)
	}
}

// TestGatesOfADryRun run as well.
func TestGatesOfADryRun(t *testing.T) {
	f := newFixture(t, "app")
	f.deps.Backends = withoutECR(f.deps.Backends)
	f.plan.Gates = []plan.Gate{gate(`test "$ECSBUILD_IMAGE" = "$ECSBUILD_IMAGE_APP" && test -n "$ECSBUILD_IMAGE"`), gate("exit 7")}
	var e *GateError
	if _, err := DryRun(t.Context(), f.plan, f.deps, Options{}); !errors.As(err, &e) || e.Why != "it ended with exit code 7" {
		t.Error(err)
	}
}

// TestGateOtherImage: a gate that may have tested the image of another run has tested nothing.
func TestGateOtherImage(t *testing.T) {
	f := newFixture(t, "app")
	f.engine.steps = []progress.BuildStep{{ID: "a", Started: &time.Time{}}}
	f.plan.Gates = []plan.Gate{gate("touch ran"), gate("touch second")}
	f.engine.loadedOther = builder.ErrOtherImage
	_, err := f.run(t, Options{})
	var e *LoadError
	if !errors.As(err, &e) || !errors.Is(err, builder.ErrOtherImage) || len(f.puts) != 0 {
		t.Errorf("%v, %v", err, f.puts)
	}
	for name, want := range map[string]bool{"ran": true, "second": false} {
		if _, err := os.Stat(filepath.Join(f.plan.Directory, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
