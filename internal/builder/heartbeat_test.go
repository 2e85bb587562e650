package builder

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/enginetest"
)

// TestSilentEngine: an engine on another host that does not answer any more ends a build.
func TestSilentEngine(t *testing.T) {
	oldInterval, oldTimeout := beatInterval, beatTimeout
	beatInterval, beatTimeout = 30*time.Millisecond, 30*time.Millisecond
	t.Cleanup(func() { beatInterval, beatTimeout = oldInterval, oldTimeout })
	silent := make(chan struct{})
	fake := &enginetest.Engine{Containerd: true}
	fake.Build = func(ctx context.Context, _ *enginetest.Build) (map[string]string, error) {
		close(silent)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	_, socket := fake.Start(t)
	address := silentRelay(t, strings.TrimPrefix(socket, "unix://"), silent)
	e, err := Connect(t.Context(), endpoint.Endpoint{BuildKit: "tcp://" + address})
	if err != nil {
		t.Fatal(err)
	}
	e.Watch() // as of another host; a loopback is this one
	t.Cleanup(e.Close)
	_, err = e.Build(t.Context(), job(t, func(j *Job) { j.Keep = true }))
	var lost *endpoint.UnreachableError
	if !errors.As(err, &lost) || !lost.Lost || !strings.Contains(lost.Error(), "has not answered for") {
		t.Errorf("%v", err)
	}
}

// silentRelay hands connections to a socket until silent is closed, and then nothing more.
func silentRelay(t *testing.T, socket string, silent chan struct{}) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(context.Background())
	t.Cleanup(func() { end(); _ = l.Close() })
	pass := func(to, from net.Conn) {
		defer to.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			select {
			case <-silent:
				<-ended.Done()
				return
			default:
			}
			if n > 0 {
				_, _ = to.Write(buf[:n])
			}
			if errors.Is(err, io.EOF) || err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", socket)
			if err != nil {
				return
			}
			context.AfterFunc(ended, func() { _ = in.Close(); _ = out.Close() })
			go pass(in, out)
			go pass(out, in)
		}
	}()
	return l.Addr().String()
}
