package dockerpush

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/ecsbuild/ecsbuild/internal/relay"
	"github.com/ecsbuild/ecsbuild/internal/selfimage"
)

// relayTimeout is for the start of a relay, whose image may have to be sent first.
const relayTimeout = time.Minute

// startRelay starts a container on the network of the engine's host, through which the engine
// reaches the proxy. Its image is this program, and stays in the engine for the next run.
func (p *Pusher) startRelay(ctx context.Context) (_ *proxy, err error) {
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	name, err := p.relayImage(ctx)
	if err != nil {
		return nil, err
	}
	user := "65534:65534"
	made, err := p.docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{Image: name, Cmd: []string{selfimage.Path, relay.Command, preferredProxyAddr}, User: user,
			OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, Labels: map[string]string{"ecsbuild": "relay"}},
		HostConfig: &container.HostConfig{NetworkMode: "host", AutoRemove: true, ReadonlyRootfs: true, CapDrop: []string{"ALL"},
			SecurityOpt: []string{"no-new-privileges"}, LogConfig: container.LogConfig{Type: "none"}},
	})
	if err != nil {
		return nil, err
	}
	remove := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		_, _ = p.docker.ContainerRemove(ctx, made.ID, client.ContainerRemoveOptions{Force: true})
	}
	defer func() {
		if err != nil {
			remove()
		}
	}()

	attached, err := p.docker.ContainerAttach(ctx, made.ID, client.ContainerAttachOptions{Stream: true,
		Stdin: true, Stdout: true})
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	p.relaying.Go(func() {
		_, err := stdcopy.StdCopy(w, io.Discard, attached.Reader)
		_ = w.CloseWithError(errors.Join(err, io.EOF))
	})
	stop := context.AfterFunc(ctx, attached.Close)
	defer stop()
	started := newProxy(p.compressions)
	if _, err = p.docker.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err == nil {
		started.relay, err = relay.Serve(r, attached.Conn, started, func() { attached.Close(); _ = r.Close() })
	}
	if err != nil {
		attached.Close()
		_ = r.Close()
		return nil, err
	}
	started.addr = started.relay.Addr
	if err = p.login(ctx, started); err != nil {
		started.close()
		return nil, fmt.Errorf("the engine cannot reach its own host's loopback: %w", err)
	}
	return started, nil
}

// relayImage makes sure that the engine has this program as an image, and gives its name.
func (p *Pusher) relayImage(ctx context.Context) (name string, err error) {
	v, err := p.docker.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return "", err
	}
	if err := selfimage.CanRunOn(v.Os + "/" + v.Arch); err != nil {
		return "", err
	}
	hash, err := selfimage.Hash()
	if err != nil {
		return "", err
	}
	name = "ecsbuild/relay:" + hash[:16]
	if _, err := p.docker.ImageInspect(ctx, name); !errdefs.IsNotFound(err) {
		return name, err
	}
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(selfimage.WriteTar(w)) }()
	defer r.Close()
	res, err := p.docker.ImageImport(ctx, client.ImageImportSource{Source: r, SourceName: "-"}, name, client.ImageImportOptions{})
	if err != nil {
		return "", err
	}
	defer res.Close()
	_, err = io.Copy(io.Discard, res)
	return name, err
}
