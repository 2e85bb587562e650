// Package relay lets an engine whose loopback is another one reach a server of this process.
//
// A container on the network of the engine's host runs this program, with Main: it listens on that
// loopback, and hands each request on over its standard input and output, which are HTTP/2. At the
// other end Serve answers. Nothing listens anywhere but on loopback, and the container ends with the
// connection.
package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

// Command is the name of the command that Main is.
const Command = "relay"

// Main listens on an address, or where that is taken on any port, writes the address as a line, and,
// when that has been answered, relays until in ends.
func Main(addr string, in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		if l, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(out, l.Addr()); err != nil {
		return err
	}
	c := newConn(in, out, func() {})
	answered := make(chan error, 1)
	go func() { answered <- c.expect(answer) }()
	select {
	case err = <-answered:
	case <-time.After(answerTimeout): // whoever has started this was killed meanwhile
		err = errors.New("no answer")
	}
	if err != nil {
		_ = l.Close()
		return err
	}
	once := make(chan net.Conn, 1)
	once <- c
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &h2c, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			case <-c.closed: // there is no other
				return nil, net.ErrClosed
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "ecsbuild" },
		FlushInterval: -1,
		Transport:     transport,
	}}
	go func() { // a first request, so that the end of the connection is seen before the engine's first one
		if res, err := (&http.Client{Transport: transport}).Get("http://ecsbuild/"); err == nil {
			_ = res.Body.Close()
		}
	}()
	go func() {
		<-c.closed
		_ = server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// A Server answers what a relay hands on.
type Server struct {
	Addr string // where the relay listens: 127.0.0.1:PORT

	server *http.Server
	conn   *conn
	done   chan struct{}
}

// maxRequests at once is more than any number of pushes has: there is no second connection.
const maxRequests = 10_000

// answer is what Serve says when it has the address, for which Main waits for answerTimeout.
const (
	answer        = "go on\n"
	answerTimeout = 10 * time.Second
)

// A relay that does not answer a ping has lost its connection, or stands still.
const (
	pingInterval = 10 * time.Second
	pingTimeout  = 10 * time.Second
)

// streamWindow is how much of each request may wait here, in bytes, and connWindow of all, which is
// more than all can have: else some that wait would keep others from going on.
const (
	streamWindow = 256 << 10
	connWindow   = 1 << 30
)

// Serve waits for the address of a relay, whose output and input these are, and answers requests
// until it is closed. end is called then, and must end reads of out.
func Serve(out io.Reader, in io.Writer, handler http.Handler, end func()) (*Server, error) {
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	addr := strings.TrimSuffix(line, "\n")
	if host, _, err := net.SplitHostPort(addr); err != nil || host != "127.0.0.1" {
		return nil, fmt.Errorf("the relay says %q in the place of its address", addr)
	}
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	s := &Server{Addr: addr, conn: newConn(r, in, end), done: make(chan struct{}),
		server: &http.Server{Handler: handler, Protocols: &h2c, ReadHeaderTimeout: 10 * time.Second,
			HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxRequests, MaxReceiveBufferPerStream: streamWindow,
				MaxReceiveBufferPerConnection: connWindow, SendPingTimeout: pingInterval, PingTimeout: pingTimeout}}}
	if _, err := io.WriteString(in, answer); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.done)
		_ = s.server.Serve(&oneConn{conn: s.conn})
	}()
	return s, nil
}

// Ended is closed when the relay has ended, or does not answer any more.
func (s *Server) Ended() <-chan struct{} { return s.conn.closed }

// Close ends the relay.
func (s *Server) Close() {
	_ = s.conn.Close()
	_ = s.server.Close()
	<-s.done
}

// conn makes one connection of two streams.
type conn struct {
	io.Reader
	io.Writer
	end    func()
	once   sync.Once
	closed chan struct{}
}

func newConn(r io.Reader, w io.Writer, end func()) *conn {
	return &conn{Reader: r, Writer: w, end: end, closed: make(chan struct{})}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

// expect reads a text.
func (c *conn) expect(text string) error {
	got := make([]byte, len(text))
	_, err := io.ReadFull(c.Reader, got)
	if err == nil && string(got) != text {
		err = fmt.Errorf("%q in the place of an answer", got)
	}
	return err
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed); c.end() })
	return nil
}

func (*conn) LocalAddr() net.Addr              { return addr{} }
func (*conn) RemoteAddr() net.Addr             { return addr{} }
func (*conn) SetDeadline(time.Time) error      { return nil }
func (*conn) SetReadDeadline(time.Time) error  { return nil }
func (*conn) SetWriteDeadline(time.Time) error { return nil }

type addr struct{}

func (addr) Network() string { return "relay" }
func (addr) String() string  { return "relay" }

// oneConn is a listener of one connection, which ends with it.
type oneConn struct {
	conn     *conn
	accepted bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.accepted {
		<-l.conn.closed
		return nil, net.ErrClosed
	}
	l.accepted = true
	return l.conn, nil
}

func (l *oneConn) Close() error   { return l.conn.Close() }
func (l *oneConn) Addr() net.Addr { return addr{} }
