package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// far puts an engine on another host, as CodeBuild's Docker server is: in a network namespace, whose
// loopback is its own. Whoever calls the engine, and the engine when it calls a registry, goes over a
// link of linkRate and linkDelay. (The kernel's own netem is not everywhere.)
type far struct {
	netns     string
	socket    string // where the engine is reached
	listeners []net.Listener
	calls     link // to the engine and back
	pushes    link // from the engine to the registry and back
}

const (
	linkRate  = 1e9 / 8 // bytes a second, each way
	linkDelay = time.Millisecond
)

func newFar(ctx context.Context, rig, dir string) (*far, error) {
	f := &far{netns: fmt.Sprintf("bench-%d-%s", os.Getpid(), filepath.Base(dir)), socket: dir + ".sock"}
	if _, err := output(ctx, "ip", "netns", "add", f.netns); err != nil {
		return nil, err
	}
	if _, err := output(ctx, "ip", "-n", f.netns, "link", "set", "lo", "up"); err != nil {
		return nil, errors.Join(err, f.close())
	}
	l, err := listenIn(f.netns, rig)
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	f.serve(l, &f.pushes, "tcp", rig)
	return f, nil
}

// listenIn listens in another network namespace.
func listenIn(netns, addr string) (net.Listener, error) {
	type result struct {
		l   net.Listener
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		file, err := os.Open("/run/netns/" + netns)
		if err == nil {
			err = errors.Join(unix.Setns(int(file.Fd()), unix.CLONE_NEWNET), file.Close())
		}
		if err != nil {
			made <- result{nil, err}
			return
		}
		l, err := net.Listen("tcp4", addr)
		made <- result{l, err}
	}()
	r := <-made
	return r.l, r.err
}

// wrapper comes before the command that starts the engine.
func (f *far) wrapper() []string {
	if f == nil {
		return nil
	}
	return []string{"nsenter", "--net=/run/netns/" + f.netns}
}

// reach gives the address at which an engine is called over the link.
func (f *far) reach(address string) (string, error) {
	variable, socket, ok := strings.Cut(address, "=unix://")
	if f == nil || !ok {
		return address, nil
	}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		return "", err
	}
	f.serve(l, &f.calls, "unix", socket)
	return variable + "=unix://" + f.socket, nil
}

func (f *far) close() error {
	if f == nil {
		return nil
	}
	for _, l := range f.listeners {
		_ = l.Close()
	}
	return exec.Command("ip", "netns", "delete", f.netns).Run()
}

// serve hands connections on over a link.
func (f *far) serve(l net.Listener, over *link, network, to string) {
	f.listeners = append(f.listeners, l)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go over.join(in, network, to)
		}
	}()
}

// A link carries what all of its connections send.
type link struct{ there, back direction }

func (l *link) join(in net.Conn, network, to string) {
	defer in.Close()
	time.Sleep(2 * linkDelay) // a connection takes a round trip
	out, err := net.Dial(network, to)
	if err != nil {
		return
	}
	defer out.Close()
	var both sync.WaitGroup
	both.Go(func() { l.there.carry(out, in) })
	both.Go(func() { l.back.carry(in, out) })
	both.Wait()
}

// direction is one way of a link.
type direction struct {
	mu   sync.Mutex
	free time.Time // when what was sent before has left
}

// arrival is when n bytes are there that are sent now.
func (d *direction) arrival(n int) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); d.free.Before(now) {
		d.free = now
	}
	d.free = d.free.Add(time.Duration(float64(n) / linkRate * float64(time.Second)))
	return d.free.Add(linkDelay)
}

// packets that are on their way, of one connection.
const inFlight = 64

func (d *direction) carry(to, from net.Conn) {
	type packet struct {
		data []byte
		at   time.Time
	}
	way := make(chan packet, inFlight)
	go func() {
		defer close(way)
		for {
			data := make([]byte, 32<<10)
			n, err := from.Read(data)
			if n > 0 {
				way <- packet{data[:n], d.arrival(n)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range way {
		time.Sleep(time.Until(p.at))
		if _, err := to.Write(p.data); err != nil {
			_ = from.Close()
		}
	}
	if c, ok := to.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}
