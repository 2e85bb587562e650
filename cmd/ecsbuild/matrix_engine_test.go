package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// TestPullMatrix has the requests that an engine makes for a run meet faults: to Docker Hub for a
// base image, and to ECR for caches. A cache that cannot be read fails no run.
func TestPullMatrix(t *testing.T) {
	if os.Getenv("ECSBUILD_SOAK") == "" {
		t.Skip("takes long: make soak")
	}
	t.Parallel()
	const dockerfile = "FROM base:1\nCOPY busybox /bin/\nRUN --mount=type=cache,target=/m sleep 1.1; date >/m/d\nCOPY data /\n"
	for kind, tt := range map[string]struct {
		cache    string
		requests []string
		optional bool // it may fail for good, and the run goes on
	}{
		"codebuild": {"", awstest.HubActions, false},
		"containerd": {", cache: registry, cache_mounts: true",
			[]string{"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}, true},
	} {
		if !slices.Contains(testEngines(t), kind) {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, kind)
			w.busybox()
			w.write("Dockerfile", dockerfile)
			w.write("data", "data")
			w.write("ecsbuild.yml", "tag: v1\nimages:\n  - {container: web, repository: shop/web"+tt.cache+"}\n")
			prepare := func() {
				if err := w.rig.Reset(); err != nil {
					t.Fatal(err)
				}
				w.rig.AddRepository(awstest.Account, "shop/web", false)
				w.rig.Allow("ecr:BatchGetImage")
				w.rig.Allow("ecr:GetDownloadUrlForLayer")
				if err := (&stage{rig: w.rig}).hubImage("library/base:1", 0); err != nil {
					t.Fatal(err)
				}
				if tt.optional { // an earlier host has written them
					w.docker("builder", "prune", "-af")
					if r := w.run(nil, "run", "--progress", "plain"); r.code != 0 {
						t.Fatalf("exit code %d: %s", r.code, r.stderr)
					}
				}
				w.docker("builder", "prune", "-af")
				w.docker("image", "prune", "-af")
				w.rig.Forget()
			}
			run := func() *matrixRun {
				r := w.run(nil, "run", "--progress", "plain")
				return newMatrixRun(w.rig, filepath.Join(w.dir, "src"), r.code, r.took, r.stderr)
			}
			prepare()
			quiet := run()
			if quiet.code != 0 {
				t.Fatal(quiet.stderr)
			}
			table := map[string]string{}
			for _, request := range tt.requests {
				for _, f := range matrixFaults {
					for _, times := range []int{1, 1 << 30} {
						if f.aws || f.endless && times == 1 {
							continue
						}
						prepare()
						fault := f.fault
						fault.Times, fault.Action = times, request
						w.rig.Inject(fault)
						r := run()
						if tt.optional {
							r.tags = nil // the tag of the earlier host
						}
						word := r.verdict(quiet)
						if tt.optional && r.code != 0 {
							word = fmt.Sprintf("NOT SURVIVED: exit code %d: %s", r.code, r.stderr)
						}
						table[fmt.Sprintf("%s/%s/%d", request, f.name, times)] = word
						if isBad(word) {
							t.Errorf("%s, %s, %d times: %s", request, f.name, times, word)
						}
					}
				}
			}
			t.Logf("%d cells\n%s", len(table), matrixTable(tt.requests, table))
		})
	}
}

// engineRequest is the part of a request to a Docker engine that is the same in every run.
var engineRequest = regexp.MustCompile(`^(?:/v[0-9.]+)?/(_ping|grpc|session|auth|info|version|images)(?:/.*?)?(/tag|/push|/json|/get)?$`)

// A brokenEngine is a Docker engine one of whose requests fails.
type brokenEngine struct {
	*httputil.ReverseProxy
	request, fault string

	mu   sync.Mutex
	seen []string
}

func (e *brokenEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.Method + " " + r.URL.Path
	if m := engineRequest.FindStringSubmatch(r.URL.Path); m != nil {
		name = r.Method + " " + m[1] + m[2]
	}
	e.mu.Lock()
	if !slices.Contains(e.seen, name) {
		e.seen = append(e.seen, name)
	}
	e.mu.Unlock()
	if name == e.request {
		switch e.fault {
		case "reset":
			panic(http.ErrAbortHandler)
		case "500":
			http.Error(w, `{"message":"the engine has a fault"}`, http.StatusInternalServerError)
			return
		case "half a JSON":
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"message":`))
			return
		case "hang":
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}
	}
	e.ReverseProxy.ServeHTTP(w, r)
}

// TestEngineMatrix has each request to the engine fail, for as long as the run lasts. A push that
// hangs is left out: an engine may take hours for one, as for a step.
func TestEngineMatrix(t *testing.T) {
	if os.Getenv("ECSBUILD_SOAK") == "" {
		t.Skip("takes long: make soak")
	}
	t.Parallel()
	for _, kind := range testEngines(t) {
		if kind == "buildkitd" {
			continue // it speaks gRPC alone
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, kind)
			w.write("Dockerfile", "FROM scratch\nCOPY data /\n")
			w.write("ecsbuild.yml", "tag: v1\nimages:\n  - {container: web, repository: shop/web}\n")
			n := 0
			run := func(request, fault string) (*matrixRun, []string) {
				n++
				w.write("data", fmt.Sprint(n))
				w.rig.Empty(awstest.Account)
				w.rig.AddRepository(awstest.Account, "shop/web", false)
				w.rig.Forget()
				e := &brokenEngine{request: request, fault: fault}
				e.ReverseProxy = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
				e.ReverseProxy.Transport = &http.Transport{DisableKeepAlives: true,
					DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
						return (&net.Dialer{}).DialContext(ctx, "unix", w.socket())
					}}
				e.ReverseProxy.FlushInterval = -1
				socket := filepath.Join(w.dir, fmt.Sprint(n)+".sock")
				l, err := net.Listen("unix", socket)
				if err != nil {
					t.Fatal(err)
				}
				server := &http.Server{Handler: e}
				go func() { _ = server.Serve(l) }()
				defer server.Close()
				usual := w.environ
				w.environ = append(slices.Clone(usual), "DOCKER_HOST=unix://"+socket)
				r := w.run(nil, "run", "--progress", "plain")
				w.environ = usual
				return newMatrixRun(w.rig, filepath.Join(w.dir, "src"), r.code, r.took, r.stderr), e.seen
			}
			quiet, requests := run("", "")
			if quiet.code != 0 {
				t.Fatal(quiet.stderr)
			}
			var lines []string
			for _, request := range requests {
				line := fmt.Sprintf("%-20s", request)
				for _, fault := range []string{"reset", "500", "half a JSON", "hang"} {
					if fault == "hang" && (strings.HasSuffix(request, "/push") || strings.HasSuffix(request, "/session")) {
						continue
					}
					r, _ := run(request, fault)
					word := r.verdict(quiet)
					line += fmt.Sprintf(" %s: %s in %.0f s,", fault, word, r.took.Seconds())
					if isBad(word) {
						t.Errorf("%s, %s: %s", request, fault, word)
					}
				}
				lines = append(lines, line)
			}
			t.Logf("%d requests\n%s", len(requests), strings.Join(lines, "\n"))
		})
	}
}
