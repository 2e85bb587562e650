package httptransport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// TestAddressGuard: a peer may send us to public addresses, and to those of its own kind.
func TestAddressGuard(t *testing.T) {
	for _, tt := range []struct {
		peer, target string
		refused      bool
	}{
		{"198.51.100.1", "203.0.113.1", false},
		{"198.51.100.1", "10.0.0.1", true},
		{"198.51.100.1", "100.64.0.1", true},
		{"198.51.100.1", "169.254.169.254", true},
		{"198.51.100.1", "127.0.0.1", true},
		{"198.51.100.1", "::1", true},
		{"198.51.100.1", "::ffff:10.0.0.1", true},
		{"198.51.100.1", "fd00::1", true},
		{"10.0.0.1", "10.0.0.2", false}, // a registry behind a VPC endpoint
		{"10.0.0.1", "169.254.169.254", true},
		{"127.0.0.1", "127.0.0.1", false},
	} {
		g := newAddressGuard(tt.peer)
		g.lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			ip, err := netip.ParseAddr(host)
			return []netip.Addr{ip}, err
		}
		err := g.check(t.Context(), "elsewhere.example", netip.MustParseAddr(tt.target), false)
		var refused *AddressError
		if errors.As(err, &refused) != tt.refused {
			t.Errorf("%s sends us to %s: %v", tt.peer, tt.target, err)
		}
	}
}

// TestPrivateEndpoint: a name with a private address is reached over TLS, whose
// certificate says whose it is; this machine and a cloud's metadata are not.
func TestPrivateEndpoint(t *testing.T) {
	g := newAddressGuard("198.51.100.1")
	g.lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("198.51.100.1")}, nil
	}
	for ip, want := range map[string]bool{"10.0.0.1": true, "127.0.0.1": false, "169.254.169.254": false, "::1": false} {
		if err := g.check(t.Context(), "bucket.example", netip.MustParseAddr(ip), true); (err == nil) != want {
			t.Errorf("%s over TLS: %v", ip, err)
		}
	}
	for _, host := range []string{"10.0.0.1", "127.1", "0x7f000001", "2130706433", "LOCALHOST", "a.localhost.", "[::1]",
		"10.0.0.1.", "127.0.0.１", "ⓛocalhost", "ip6-localhost", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]",
		"255.255.255.255", "[::ffff:127.0.0.1]"} {
		u, err := url.Parse("https://" + host + ":443/")
		if err != nil {
			t.Fatal(err)
		}
		var refused *AddressError
		if err := g.checkLiteral(t.Context(), u); !errors.As(err, &refused) {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"bucket.s3.eu-west-1.amazonaws.com", "a_b.example", "köln.example"} {
		if err := g.checkLiteral(t.Context(), &url.URL{Scheme: "https", Host: host}); err != nil {
			t.Error(err)
		}
	}
}

// TestTLSIsKnownToTheDialer asks a server on loopback as if that were a private network.
func TestTLSIsKnownToTheDialer(t *testing.T) {
	guard := New("registry.example").(*stallGuard)
	var verified []any
	guard.next.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		verified = append(verified, ctx.Value(withTLS{}))
		return nil, errors.New("no network")
	}
	for _, scheme := range []string{"https", "http"} {
		_, _ = (&http.Client{Transport: guard}).Get(scheme + "://bucket.example/")
	}
	if len(verified) != 2 || verified[0] != true || verified[1] != false {
		t.Errorf("%v", verified)
	}
}

// closed is a body that tells whether it was.
type closed struct {
	io.Reader
	closed bool
}

func (c *closed) Close() error { c.closed = true; return nil }

// TestForeignAddress asks a server on loopback for which the peer is public: by its
// name, by its address, and through a proxy.
func TestForeignAddress(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer srv.Close()
	guard := New("registry.example").(*stallGuard)
	guard.addresses.lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("198.51.100.1")}, nil
	}
	client := &http.Client{Transport: guard}
	var refused *AddressError
	body := &closed{Reader: strings.NewReader("x")}
	if _, err := client.Post(srv.URL, "text/plain", body); !errors.As(err, &refused) || !body.closed {
		t.Errorf("%v, the body is closed: %v", err, body.closed)
	}
	for _, target := range []string{srv.URL, strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)} {
		if _, err := client.Get(target); !errors.As(err, &refused) {
			t.Errorf("%s: %v", target, err)
		}
	}
	proxy, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	guard.next.Proxy = guard.addresses.proxy(http.ProxyURL(proxy))
	if _, err := client.Get("http://169.254.169.254/latest/meta-data/"); !errors.As(err, &refused) {
		t.Errorf("through a proxy: %v", err)
	}
	if asked != 0 {
		t.Errorf("%d requests came through", asked)
	}
	resp, err := client.Get("http://public.example/")
	if err != nil || asked != 1 {
		t.Fatalf("the user's own proxy is not asked: %v", err)
	}
	_ = resp.Body.Close()
}
