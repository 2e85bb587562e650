package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// A host is what CodeBuild hands out for a build: a new disk, an engine that has seen
// nothing yet, a new checkout of the sources, and a HOME that is logged in.
type host struct {
	rig      *awstest.Rig
	tools    tools
	workload *workload
	dir      string
	address  string // DOCKER_HOST=…
	kind     string // of script/engine
	cache    string // ECSBUILD_CACHE
	ask      ask    // what is measured
	far      *far   // nil for an engine on the host itself

	mu   sync.Mutex
	peak int64 // of the commands' memory, in bytes
}

// tools are the binaries under comparison.
type tools struct {
	ecsbuild, docker, buildx, engine string

	path string // folder with the daemons of the engine under their own names
}

func (h *host) home() string { return filepath.Join(h.dir, "home") }

// newHost starts one; the rig is as the caller has set it.
func newHost(ctx context.Context, rig *awstest.Rig, t tools, kind, dir string, w *workload, far bool) (_ *host,
	err error) {
	h := &host{rig: rig, tools: t, workload: w, dir: dir}
	if far {
		if h.far, err = newFar(ctx, rig.Addr, dir); err != nil {
			return nil, err
		}
	}
	if err := mountDisk(ctx, dir); err != nil {
		return nil, err
	}
	if err := errors.Join(w.checkout(filepath.Join(dir, "src")), h.login()); err != nil {
		return nil, errors.Join(err, unmountDisk(dir))
	}
	cmd := h.start(ctx, kind, filepath.Join(dir, "e"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("script/engine start %s: %w\n%s", kind, err, stderr.String()), h.close())
	}
	h.address, err = h.far.reach(strings.TrimSpace(string(out)))
	return h, err
}

// start is the command that starts an engine in a folder and prints its address.
func (h *host) start(ctx context.Context, kind, dir string) *exec.Cmd {
	args := append(h.far.wrapper(), h.tools.engine, "start", kind, dir)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), h.rig.Environ()...) // the engine pulls from the rig's hub and pushes to its ECR
	return cmd
}

// close stops the engine. What the host had stays in the file of its disk until its chain has
// ended: to delete it in between would slow the disk for the next measurement.
func (h *host) close() error {
	_, err := output(context.Background(), h.tools.engine, "stop", filepath.Join(h.dir, "e"))
	return errors.Join(err, h.far.close(), unmountDisk(h.dir))
}

// login does what aws ecr get-login-password | docker login does, and gives
// the docker client its buildx.
func (h *host) login() error {
	req, err := http.NewRequest(http.MethodPost, "http://"+h.rig.Addr+"/", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	req.Header.Set("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		AuthorizationData []struct{ AuthorizationToken string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.AuthorizationData) == 0 {
		return fmt.Errorf("the rig gives no token: %v", err)
	}
	auth := map[string]any{"auths": map[string]any{h.rig.Host(awstest.Account): map[string]string{"auth": answer.AuthorizationData[0].AuthorizationToken}}}
	data, err := json.Marshal(auth)
	if err != nil {
		return err
	}
	docker := filepath.Join(h.home(), ".docker")
	if err := write(filepath.Join(docker, "config.json"), data); err != nil {
		return err
	}
	if h.tools.buildx == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(docker, "cli-plugins"), 0o755); err != nil {
		return err
	}
	return os.Symlink(h.tools.buildx, filepath.Join(docker, "cli-plugins", "docker-buildx"))
}

// A sample is one measurement.
type sample struct {
	Engine   string  `json:"engine"`
	Case     string  `json:"case"`
	Way      string  `json:"way"`
	Run      int     `json:"run"`
	Seconds  float64 `json:"seconds"`
	Sent     int64   `json:"sent_bytes"`      // of layers and configs, to ECR
	Requests int     `json:"requests"`        // to AWS and ECR
	Hub      int     `json:"hub_requests"`    // to Docker Hub
	Peak     int64   `json:"peak_rss_bytes"`  // of the largest process of the way itself; the engine is apart
	Puts     int     `json:"puts_per_second"` // the most PutImage in any second
	Failed   string  `json:"failed,omitempty"`
	Began    string  `json:"began"`
}

// measure runs one way once.
func (h *host) measure(ctx context.Context, w way, tag string) (sample, error) {
	syscall.Sync() // what the preparation wrote is not written in the measured time
	h.rig.Forget()
	h.peak = 0
	began := time.Now()
	err := w.run(ctx, h, tag)
	s := sample{Way: w.name, Seconds: time.Since(began).Seconds(), Peak: h.peak, Puts: h.rig.MaxPutsPerSecond(),
		Began: began.UTC().Format(time.RFC3339)}
	for _, q := range h.rig.Requests() {
		if strings.HasPrefix(q.Action, "hub") {
			s.Hub++
		} else {
			s.Requests++
		}
		// docker's classic push sends a blob by PATCH, the containerd store and bake by PUT.
		if q.Action == "ecr:UploadLayerPart" || q.Action == "ecr:CompleteLayerUpload" {
			s.Sent += q.Bytes
		}
	}
	for _, img := range h.workload.images {
		if _, ok := h.rig.Tags(awstest.Account, img.name)[tag]; !ok && w.pushes && err == nil {
			err = fmt.Errorf("%s ended well, and %s:%s is not in the registry", w.name, img.name, tag)
		}
	}
	return s, err
}
