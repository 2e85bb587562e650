package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// A matrixFault is what may happen to any request.
type matrixFault struct {
	name  string
	fault awstest.Fault

	endless  bool // it takes as long as somebody waits
	answer   bool // it is an answer and not a disturbance: a run need not survive it
	registry bool // a registry's alone; the keys of a test's account cannot be renewed
	aws      bool // of AWS's own calls alone
}

var matrixFaults = []matrixFault{
	{name: "reset", fault: awstest.Fault{Reset: true}},
	{name: "cut answer", fault: awstest.Fault{Cut: true}},
	{name: "cut request", fault: awstest.Fault{CutAfter: 10}},
	{name: "429", fault: awstest.Fault{Status: 429, Code: "TOOMANYREQUESTS", Message: "Rate exceeded"}},
	{name: "429, after 1 s", fault: awstest.Fault{Status: 429, Code: "TOOMANYREQUESTS", Message: "Rate exceeded",
		Header: map[string]string{"Retry-After": "1"}}},
	{name: "throttling", fault: awstest.Fault{Status: 400, Code: "ThrottlingException",
		Message: "Rate exceeded"}, aws: true},
	{name: "500", fault: awstest.Fault{Status: 500}},
	{name: "503", fault: awstest.Fault{Status: 503}},
	{name: "expired", fault: awstest.Fault{Status: 403, Code: "DENIED",
		Message: "Your authorization token has expired. Reauthenticate and try again."}, registry: true},
	{name: "half a JSON", fault: awstest.Fault{Garbage: true}, answer: true},
	{name: "wrong digest", fault: awstest.Fault{Digest: "sha256:" + strings.Repeat("0", 64)},
		answer: true, registry: true},
	{name: "redirect", fault: awstest.Fault{Status: 307, Header: map[string]string{
		"Location": "https://" + awstest.Elsewhere + "/"}}, answer: true},
	{name: "hang", fault: awstest.Fault{Hang: true}, endless: true},
	{name: "trickle", fault: awstest.Fault{Trickle: true}, endless: true},
}

// maxRun bounds a run that fails, whatever the reason. An upload that stands still is tried twice,
// of two minutes each.
const maxRun = 5 * time.Minute

// TestFaultMatrix has each request that a run makes meet each fault, once and for good. The
// requests are those that an undisturbed run has made, so that a new one is in it by itself.
// Once, the run succeeds; for good, it ends in bounded time, with a code and a diagnosis,
// without a definitions file and without a tag. ECSBUILD_SOAK=1 (make soak) has the cells that
// take a minute or more as well: a registry that fails for good, and faults without an end.
func TestFaultMatrix(t *testing.T) {
	if !slices.Contains(testEngines(t), "codebuild") {
		t.Skip("its engine is not among ECSBUILD_TEST_ENGINES")
	}
	t.Parallel()
	soak := os.Getenv("ECSBUILD_SOAK") != ""
	m := &matrix{T: t, engine: startEngine(t, "codebuild", nil)}
	quiet, err := m.run(t.Context(), "", awstest.Fault{})
	if err != nil {
		t.Fatal(err)
	}
	if quiet.code != 0 {
		t.Fatalf("undisturbed: %s", quiet.stderr)
	}
	var requests []string
	ofRegistry := map[string]bool{}
	for _, q := range quiet.requests {
		if !slices.Contains(requests, q.Action) {
			requests = append(requests, q.Action)
		}
		ofRegistry[q.Action] = q.Repository != ""
	}
	var mu sync.Mutex
	table := map[string]string{}
	var longest time.Duration
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(5) // dockerd sends five layers at once; more runs would only wait for each other
	for _, request := range requests {
		for _, f := range matrixFaults {
			for _, times := range []int{1, 1 << 30} {
				slow := f.endless || times > 1 && ofRegistry[request]
				if slow && !soak || f.registry && !ofRegistry[request] || f.aws && ofRegistry[request] {
					continue
				}
				g.Go(func() error {
					fault := f.fault
					fault.Times = times
					r, err := m.run(ctx, request, fault)
					if err != nil {
						return err
					}
					word := r.verdict(quiet)
					if times == 1 && word != "survived" && !f.answer {
						word = fmt.Sprintf("NOT SURVIVED: exit code %d: %s", r.code, r.stderr)
					}
					mu.Lock()
					defer mu.Unlock()
					longest = max(longest, r.took)
					table[fmt.Sprintf("%s/%s/%d", request, f.name, times)] = word
					if isBad(word) {
						t.Errorf("%s, %s, %d times: %s", request, f.name, times, word)
					}
					return nil
				})
			}
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cells, the longest of %.0f s\n%s", len(table), longest.Seconds(), matrixTable(requests, table))
}

// matrixTable has a row for each request and a column for each fault: what happened once, and
// for good.
func matrixTable(requests []string, table map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-34s", "")
	for _, f := range matrixFaults {
		fmt.Fprintf(&b, "%-16s", f.name)
	}
	for _, request := range requests {
		fmt.Fprintf(&b, "\n%-34s", request)
		for _, f := range matrixFaults {
			once, always := table[request+"/"+f.name+"/1"], table[fmt.Sprintf("%s/%s/%d", request, f.name, 1<<30)]
			fmt.Fprintf(&b, "%-16s", short(once)+" "+short(always))
		}
	}
	return b.String()
}

func short(word string) string {
	if word == "" {
		return "-"
	}
	return map[string]string{"survived": "ok", "failed": "failed"}[word]
}

// matrix runs ecsbuild against a world of its own for each cell, on one engine.
type matrix struct {
	*testing.T
	engine string
}

// matrixRun is how a run has ended.
type matrixRun struct {
	code        int
	took        time.Duration
	stderr      string
	requests    []awstest.Request
	definitions []byte // nil for no file
	tags        map[string]digest.Digest
	whole       bool // the tag points at an image all of whose blobs are there
}

func (m *matrix) run(ctx context.Context, action string, fault awstest.Fault) (*matrixRun, error) {
	dir, err := os.MkdirTemp(m.TempDir(), "")
	if err != nil {
		return nil, err
	}
	rig, err := awstest.Start(filepath.Join(dir, "rig"))
	if err != nil {
		return nil, err
	}
	defer rig.Close()
	for _, a := range []string{"ecr:CreateRepository", "ecr:DescribeRepositories", "ecr:DescribeImages",
		"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecs:DescribeServices", "ecs:DescribeTaskDefinition",
		"secretsmanager:GetSecretValue"} {
		rig.Allow(a)
	}
	rig.SetParameter("A", "parameter")
	rig.SetSecret("B", "secret")
	rig.SetService("prod", "shop", "web")
	if action != "" {
		fault.Action = action
		rig.Inject(fault)
	}
	for name, text := range map[string]string{
		"Dockerfile": "FROM scratch\nCOPY data /\n", "data": strings.Repeat("some data ", 1000),
		"ecsbuild.yml": `tag: v1
images:
  - container: web
    repository: shop/web
    create_repository: true
    reuse: true
    secrets: {a: "ssm:A", b: "secretsmanager:B"}
definitions:
  - {containers: [web], service: {cluster: prod, name: shop}}
`} {
		if err := os.MkdirAll(filepath.Join(dir, "src"), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "src", name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "ecsbuild", "run", "--progress", "plain")
	cmd.Dir, cmd.Stderr = filepath.Join(dir, "src"), &stderr
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, m.engine}, rig.Environ()...)
	began := time.Now()
	err = cmd.Run()
	r := newMatrixRun(rig, cmd.Dir, cmd.ProcessState.ExitCode(), time.Since(began), stderr.String())
	if err != nil && r.code <= 0 {
		return nil, err
	}
	return r, nil
}

// newMatrixRun looks at what a run has left.
func newMatrixRun(rig *awstest.Rig, src string, code int, took time.Duration, stderr string) *matrixRun {
	r := &matrixRun{code: code, took: took, stderr: stderr, requests: rig.Requests(),
		tags: rig.Tags(awstest.Account, "shop/web")}
	r.definitions, _ = os.ReadFile(filepath.Join(src, "imagedefinitions.json"))
	var image struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	if json.Unmarshal(rig.Manifest(awstest.Account, "shop/web", "v1"), &image) == nil {
		r.whole = rig.Has(awstest.Account, "shop/web", image.Config.Digest)
		for _, l := range image.Layers {
			r.whole = r.whole && rig.Has(awstest.Account, "shop/web", l.Digest)
		}
	}
	return r
}

// isBad tells the verdicts that begin in capitals.
func isBad(verdict string) bool { return strings.ToUpper(verdict[:3]) == verdict[:3] }

// verdict is "survived" or "failed", in small letters where everything is as it must be then.
func (r *matrixRun) verdict(quiet *matrixRun) string {
	for _, q := range r.requests {
		if q.Action == awstest.Elsewhere && !q.Anonymous {
			return "LEAKED: credentials went to another host"
		}
	}
	if r.took > maxRun {
		return fmt.Sprintf("TOO LONG: %v", r.took)
	}
	if r.code == 0 {
		switch {
		case !bytes.Equal(r.definitions, quiet.definitions):
			return fmt.Sprintf("WRONG: exit code 0, and the definitions are %q", r.definitions)
		case !r.whole:
			return fmt.Sprintf("WRONG: exit code 0, and the image is not whole: %v", r.tags)
		}
		return "survived"
	}
	switch {
	case r.definitions != nil:
		return fmt.Sprintf("WRONG: exit code %d, and there are definitions", r.code)
	case len(r.tags) > 0:
		return fmt.Sprintf("WRONG: exit code %d, and there are tags: %v", r.code, r.tags)
	case !strings.Contains(r.stderr, "\necsbuild: ") && !strings.HasPrefix(r.stderr, "ecsbuild: "):
		return fmt.Sprintf("MUTE: exit code %d: %s", r.code, r.stderr)
	}
	return "failed"
}
