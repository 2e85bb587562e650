// Package builder builds images through BuildKit, in a Docker engine or alone, and has
// their blobs sent to a store while they appear. It knows nothing of AWS.
//
// Connect finds out what an engine is: its version and its image store. Check refuses
// what it cannot do. Build runs one Job, in one of three ways: the classic store pushes
// through package dockerpush, the containerd store and a buildkitd export through package
// ociexport, and a job to keep stays in the engine.
package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	sourcepolicy "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/dockerpush"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/privateengine"
	"github.com/ecsbuild/ecsbuild/internal/redact"
)

// An Engine is a connected Docker engine or buildkitd.
type Engine struct {
	Endpoint endpoint.Endpoint
	Version  string // "28.5.2", "buildkitd v0.34.2"
	Store    StoreKind

	proxies map[string]string // build arguments that every build gets
	policy  *sourcepolicy.Policy

	private  *privateengine.Engine // nil where somebody else has started the engine
	removals sync.WaitGroup        // of images that a private engine need not keep

	user      endpoint.Endpoint // that the user's docker commands reach
	loadsInto *client.Client    // connected to it, nil before CanLoad

	id     string         // the engine's own, "" for a buildkitd
	root   string         // folder of the engine's images, as the engine knows it
	docker *client.Client // nil for a buildkitd
	bk     *bkclient.Client

	solves       chan struct{} // those that run
	steps        chan struct{} // those whose steps run, nil for any number
	compressions chan struct{} // layers that are compressed at the moment
	sessions     sharedSessions
	opened       openSolves
	started      startedSteps
	pusher       *dockerpush.Pusher // nil where blobs leave the engine by BuildKit

	lost     context.Context // ends with a remote engine that does not answer; nil for one on this machine
	stopBeat func()          // nil where lost is
}

// StoreKind is where an engine keeps images, and so which way they leave it.
type StoreKind string

const (
	Classic    StoreKind = "classic"    // graph drivers: BuildKit exports into the engine alone
	Containerd StoreKind = "containerd" // BuildKit hands out blobs
	BuildKitd  StoreKind = "buildkitd"  // the same, without a Docker engine around it
)

// UseProxies has every build get these arguments, unless its image has them. What
// they hold of passwords is added to secrets.
func (e *Engine) UseProxies(args map[string]string, secrets *redact.Set) {
	e.proxies = args
	for _, v := range args {
		if u, err := url.Parse(v); err == nil && u.User != nil {
			password, _ := u.User.Password()
			secrets.Add(password)
		}
	}
}

// HasSourcePolicy says that rules decide what builds take for their sources.
func (e *Engine) HasSourcePolicy() bool { return e.policy != nil }

// UseSourcePolicy has every build follow the rules of a file, which say where
// sources may come from: EXPERIMENTAL_BUILDKIT_SOURCE_POLICY of docker buildx.
// https://github.com/moby/buildkit/blob/master/docs/build-repro.md
func (e *Engine) UseSourcePolicy(file string) error {
	if file == "" {
		return nil
	}
	data, err := os.ReadFile(file)
	if err == nil {
		e.policy = &sourcepolicy.Policy{}
		err = json.Unmarshal(data, e.policy)
	}
	if err != nil {
		return &fault.Error{Place: "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", What: "cannot read the source policy " + file,
			Why: err.Error(), Fix: "correct the file, or unset the variable"}
	}
	return nil
}

// Proxies are the build arguments that UseProxies was given.
func (e *Engine) Proxies() map[string]string { return e.proxies }

// Close ends the connections, the proxy, and a private engine.
func (e *Engine) Close() {
	if e.stopBeat != nil {
		e.stopBeat()
	}
	e.CloseSolves()
	e.removals.Wait()
	e.closeSessions()
	if e.pusher != nil {
		e.pusher.Close()
	}
	if e.bk != nil {
		_ = e.bk.Close()
	}
	if e.docker != nil {
		_ = e.docker.Close()
	}
	if e.loadsInto != nil && e.loadsInto != e.docker {
		_ = e.loadsInto.Close()
	}
	if e.private != nil {
		e.private.Close()
	}
}

// closeGrace is how long a session may take to say goodbye, which one to an engine that has fallen
// silent does for ever.
const closeGrace = 2 * time.Second

func (e *Engine) closeSessions() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		e.sessions.close()
	}()
	select {
	case <-closed:
		return
	case <-time.After(closeGrace):
	}
	if e.bk != nil {
		_ = e.bk.Close() // with the connection of the sessions
	}
	<-closed
}

// String names the engine for messages: "Docker engine 20.10.24 (classic store)".
func (e *Engine) String() string {
	if e.Store == BuildKitd {
		return e.Version
	}
	if e.private != nil {
		return fmt.Sprintf("private Docker engine %s (%s store)", e.Version, e.Store)
	}
	return fmt.Sprintf("Docker engine %s (%s store)", e.Version, e.Store)
}

// Platform is what the engine builds for unless told otherwise.
func (e *Engine) Platform(ctx context.Context) (string, error) {
	w, err := e.worker(ctx)
	if err != nil {
		return "", err
	}
	return platforms.Format(w.Platforms[0]), nil
}

// worker is what builds in the engine; it has a platform at least.
func (e *Engine) worker(ctx context.Context) (*bkclient.WorkerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	workers, err := e.bk.ListWorkers(ctx)
	if err != nil {
		return nil, err
	}
	if len(workers) == 0 || len(workers[0].Platforms) == 0 {
		return nil, errors.New("the engine names no platform")
	}
	return workers[0], nil
}

// Platforms are all that it builds for. The first one is its own; others may be emulated.
func (e *Engine) Platforms(ctx context.Context) (out []ocispec.Platform, err error) {
	w, err := e.worker(ctx)
	if err != nil {
		return nil, err
	}
	return w.Platforms, nil
}

// Parts are those that an image is built in: none, since the engine builds all of it.
func (e *Engine) Parts(plan.Image) []plan.Image { return nil }

// LocalDigests are those that a Docker engine knows of the image that it has of
// a name: it takes that one where a build does not pull, and names no digest.
func (e *Engine) LocalDigests(ctx context.Context, ref string) (out []string) {
	if e.docker == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	found, err := e.docker.ImageInspect(ctx, ref)
	if err != nil {
		return nil
	}
	for _, name := range found.RepoDigests {
		_, d, _ := strings.Cut(name, "@")
		out = append(out, d)
	}
	return out
}

// olderThan says whether the engine is older than a version such as 23.0.
func (e *Engine) olderThan(major, minor int) bool {
	parts := strings.SplitN(strings.TrimPrefix(e.Version, "v"), ".", 3)
	if e.Store == BuildKitd || len(parts) < 2 {
		return false
	}
	a, err1 := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		return false // a development build is taken for a new one
	}
	return a < major || a == major && b < minor
}
