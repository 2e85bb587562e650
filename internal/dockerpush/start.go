package dockerpush

import (
	"context"
	"time"

	"github.com/moby/moby/client"
)

// A start is that of a proxy which the engine can reach.
type start struct {
	direct bool // on the engine's own loopback, without a relay

	done        chan struct{} // closed when those below are known
	proxy       *proxy
	unreachable error // why there is none
}

// probe starts the proxy once a run and asks the engine to log in to it. One with a loopback of its
// own (a virtual machine, another network namespace, another host) cannot: a relay is started for it,
// for which nobody waits yet.
func (p *Pusher) probe(ctx context.Context) (*start, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.start != nil {
		return p.start, nil
	}
	if p.far {
		p.startFar(ctx)
		return p.start, nil
	}
	direct := newProxy(p.compressions)
	if err := direct.listen(); err != nil {
		return nil, err
	}
	err := p.login(ctx, direct)
	if ctx.Err() != nil { // says nothing of the engine; the next one asks again
		direct.close()
		return nil, context.Cause(ctx)
	}
	if err != nil {
		direct.close()
		p.startFar(ctx)
		return p.start, nil
	}
	p.start = &start{direct: true, proxy: direct, done: make(chan struct{})}
	close(p.start.done)
	p.cleaning.Go(func() { p.removeLeftovers(ctx, direct.addr) })
	return p.start, nil
}

// startFar starts a relay.
func (p *Pusher) startFar(ctx context.Context) {
	s := &start{done: make(chan struct{})}
	p.far, p.start = true, s
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	p.relaying.Go(func() {
		defer stop()
		defer close(s.done)
		if s.proxy, s.unreachable = p.startRelay(running); s.unreachable == nil {
			p.removeRelayLeftovers(running, s.proxy.addr)
		}
	})
}

// await waits for the proxy.
func (p *Pusher) await(ctx context.Context) (*start, error) {
	s, err := p.probe(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.done:
		return s, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// forget has the next push start another relay in the place of one that has ended.
func (p *Pusher) forget(s *start) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.start == s {
		p.start = nil
		p.relaying.Go(s.proxy.close)
	}
}

// login has the engine log in to a proxy.
func (p *Pusher) login(ctx context.Context, to *proxy) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := p.docker.RegistryLogin(ctx,
		client.RegistryLoginOptions{Username: proxyUser, Password: to.password, ServerAddress: to.addr})
	return err
}
