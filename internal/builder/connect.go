package builder

import (
	"context"
	"errors"
	"net"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/moby/client"

	"github.com/ecsbuild/ecsbuild/internal/dockerpush"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
)

// connectTimeout is for an engine whose socket is there and which says nothing.
const connectTimeout = 30 * time.Second

// Connect asks the engine who it is. Its error is an *endpoint.UnreachableError.
func Connect(ctx context.Context, ep endpoint.Endpoint) (*Engine, error) {
	e := &Engine{Endpoint: ep, solves: make(chan struct{}, maxSolves),
		compressions: make(chan struct{}, dockerpush.MaxConcurrentCompressions)}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := e.connect(ctx); err != nil {
		e.Close()
		var u *endpoint.UnreachableError
		if errors.As(err, &u) {
			return nil, err
		}
		return nil, &endpoint.UnreachableError{Endpoint: ep, Err: err}
	}
	e.sessions.dial = e.sessionDialer()
	if !ep.IsLocal() {
		e.Watch()
	}
	return e, nil
}

func (e *Engine) connect(ctx context.Context) (err error) {
	if e.Endpoint.BuildKit != "" {
		e.Store = BuildKitd
		if e.bk, err = e.buildkit(ctx); err != nil {
			return err
		}
		info, err := e.bk.Info(ctx)
		if err != nil {
			return err
		}
		e.Version = "buildkitd " + info.BuildkitVersion.Version
		return nil
	}
	opts, err := e.Endpoint.DockerOptions()
	if err != nil {
		return err
	}
	if e.docker, err = client.New(opts...); err != nil {
		return err
	}
	if _, err = e.docker.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return err
	}
	if e.bk, err = e.buildkit(ctx); err != nil {
		return err
	}
	if err := e.detect(ctx); err != nil {
		return err
	}
	if e.Store == Classic {
		e.pusher = dockerpush.New(e.docker, e.String())
	}
	return nil
}

// buildkit connects to BuildKit.
func (e *Engine) buildkit(ctx context.Context) (*bkclient.Client, error) {
	if e.Endpoint.BuildKit != "" {
		opts, err := e.Endpoint.BuildKitOptions()
		if err != nil {
			return nil, err
		}
		return bkclient.New(ctx, e.Endpoint.BuildKit, opts...)
	}
	return buildkitInside(ctx, e.docker)
}

// buildkitInside connects to the BuildKit of a Docker engine. API 1.53
// deprecates these two endpoints for gRPC on the socket itself: this is the
// one place to change then.
func buildkitInside(ctx context.Context, docker *client.Client) (*bkclient.Client, error) {
	return bkclient.New(ctx, "",
		bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return docker.DialHijack(ctx, "/grpc", "h2c", nil)
		}),
		bkclient.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return docker.DialHijack(ctx, "/session", proto, meta)
		}))
}

// detect finds the image store. /info of an old engine may not decode; its
// BuildKit worker then tells by the snapshotter that it names.
func (e *Engine) detect(ctx context.Context) error {
	e.Store = Classic
	info, err := e.docker.Info(ctx, client.InfoOptions{})
	if err == nil {
		e.Version, e.root, e.id = info.Info.ServerVersion, info.Info.DockerRootDir, info.Info.ID
		for _, kv := range info.Info.DriverStatus {
			if kv[0] == "driver-type" && kv[1] == "io.containerd.snapshotter.v1" {
				e.Store = Containerd
			}
		}
		return nil
	}
	v, err := e.docker.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return err
	}
	e.Version = v.Version
	workers, err := e.bk.ListWorkers(ctx)
	if err != nil {
		return err
	}
	for _, w := range workers {
		if w.Labels["org.mobyproject.buildkit.worker.snapshotter"] != "" {
			e.Store = Containerd
		}
	}
	return nil
}
