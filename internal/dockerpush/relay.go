package dockerpush

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
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
	id := "ecsbuild-relay-" + strings.ToLower(rand.Text())
	remove := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		_, _ = p.docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
	}
	if err := p.createRelay(ctx, id, name); err != nil {
		remove() // it may be there all the same
		return nil, err
	}
	attached, err := p.docker.ContainerAttach(ctx, id,
		client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true})
	if err != nil {
		remove()
		return nil, err
	}
	r, w := io.Pipe()
	p.relaying.Go(func() {
		_, err := stdcopy.StdCopy(w, io.Discard, attached.Reader)
		_ = w.CloseWithError(errors.Join(err, io.EOF))
	})
	started := newProxy(p.compressions)
	started.removeRelay = remove
	stop := context.AfterFunc(ctx, attached.Close)
	if _, err = p.docker.ContainerStart(ctx, id, client.ContainerStartOptions{}); err == nil {
		started.relay, err = relay.Serve(r, attached.Conn, started, func() { attached.Close(); _ = r.Close() })
	}
	stop()
	if err != nil {
		attached.Close()
		_ = r.Close()
		remove()
		return nil, err
	}
	started.addr = started.relay.Addr
	if err = p.login(ctx, started); err != nil {
		started.close()
		return nil, fmt.Errorf("the engine cannot reach its own host's loopback: %w", err)
	}
	p.relaying.Go(func() {
		<-started.relay.Ended()
		started.end(ErrRelayEnded)
	})
	return started, nil
}

// ErrRelayEnded ends the pushes of a relay whose container has gone or stands still.
var ErrRelayEnded = errors.New("the relay of ecsbuild on the engine's host (a container of the image ecsbuild/relay) " +
	"has ended")

// relayLabel is that of all relays.
const relayLabel = "ecsbuild=relay"

// createRelay makes the container. A request that is cut off goes on in the engine, and would make
// one that nobody knows of.
func (p *Pusher) createRelay(ctx context.Context, name, image string) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), tagTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	key, value, _ := strings.Cut(relayLabel, "=")
	_, err := p.docker.ContainerCreate(limited, client.ContainerCreateOptions{Name: name,
		Config: &container.Config{Image: image, Cmd: []string{selfimage.Path, relay.Command, preferredProxyAddr},
			User: "65534:65534", OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true,
			Labels: map[string]string{key: value}},
		HostConfig: &container.HostConfig{NetworkMode: "host", UsernsMode: "host", AutoRemove: true, ReadonlyRootfs: true,
			CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"}, LogConfig: container.LogConfig{Type: "none"}},
	})
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// leftover is how old a container that was never started must be to be nobody's.
const leftover = 5 * time.Minute

// removeRelayLeftovers takes away what killed runs have left: containers that were never started,
// and, where no other relay runs, the names of what was pushed through one.
func (p *Pusher) removeRelayLeftovers(ctx context.Context, own string) {
	ctx, cancel := context.WithTimeout(ctx, cleaningTimeout)
	defer cancel()
	names := p.leftoverNames(ctx)
	found, err := p.docker.ContainerList(ctx, client.ContainerListOptions{All: true,
		Filters: client.Filters{}.Add("label", relayLabel)})
	if err != nil {
		return
	}
	running := 0
	for _, c := range found.Items {
		switch {
		case c.State == container.StateRunning:
			running++
		case c.State == container.StateCreated && time.Since(time.Unix(c.Created, 0)) > leftover:
			_, _ = p.docker.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true})
		}
	}
	for _, n := range names {
		if n.addr == own || running <= 1 {
			_, _ = p.docker.ImageRemove(ctx, n.name, client.ImageRemoveOptions{})
		}
	}
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
	res, err := p.docker.ImageImport(ctx, client.ImageImportSource{Source: r, SourceName: "-"}, name,
		client.ImageImportOptions{})
	if err != nil {
		return "", err
	}
	defer res.Close()
	for news := json.NewDecoder(res); ; {
		var said struct {
			Error string `json:"error"`
		}
		switch err := news.Decode(&said); {
		case errors.Is(err, io.EOF):
			p.removeOldRelayImages(ctx, name)
			return name, nil
		case err != nil:
			return "", err
		case said.Error != "":
			return "", errors.New(said.Error)
		}
	}
}

// oldRelay is how old the image of another version must be to be removed.
const oldRelay = 7 * 24 * time.Hour

func (p *Pusher) removeOldRelayImages(ctx context.Context, own string) {
	found, err := p.docker.ImageList(ctx, client.ImageListOptions{
		Filters: client.Filters{}.Add("reference", "ecsbuild/relay")})
	if err != nil {
		return
	}
	for _, img := range found.Items {
		if time.Since(time.Unix(img.Created, 0)) > oldRelay && !slices.Contains(img.RepoTags, own) {
			_, _ = p.docker.ImageRemove(ctx, img.ID, client.ImageRemoveOptions{}) // not one that is in use
		}
	}
}
