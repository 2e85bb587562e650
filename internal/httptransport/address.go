package httptransport

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// An AddressError is a request that a server would have us send to an address which is
// no business of its: this machine, a private network, or the metadata service of a
// cloud.
type AddressError struct {
	Host string     // that was named
	IP   netip.Addr // the zero value where Host is a number that is no address
}

func (e *AddressError) Error() string {
	if !e.IP.IsValid() {
		return e.Host + " is not the name of a host"
	}
	return fmt.Sprintf("%s is %s, an address that is not public", e.Host, e.IP)
}

// scope is who can reach an address.
type scope int

const (
	public scope = iota
	private
	linkLocal // the metadata service of a cloud, too
	loopback
)

func scopeOf(ip netip.Addr) scope {
	switch ip = embeddedIPv4(ip); {
	case ip.IsLoopback(), ip.IsUnspecified():
		return loopback
	case ip.IsLinkLocalUnicast(), ip.IsMulticast(), reserved.Contains(ip):
		return linkLocal
	case ip.IsPrivate(), sharedSpace.Contains(ip):
		return private
	}
	return public
}

// embeddedIPv4 returns the IPv4 address that an IPv6 address stands for: mapped,
// compatible, NAT64 (RFC 6052) or 6to4 (RFC 3056).
func embeddedIPv4(ip netip.Addr) netip.Addr {
	ip = ip.Unmap()
	if ip.Is4() {
		return ip
	}
	b := ip.As16()
	switch {
	case nat64.Contains(ip), compatible.Contains(ip) && !ip.IsLoopback() && !ip.IsUnspecified():
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	compatible = netip.MustParsePrefix("::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	reserved   = netip.MustParsePrefix("240.0.0.0/4")
)

// sharedSpace is used like private networks: RFC 6598.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// addressGuard refuses connections to hosts other than peer whose addresses are not
// public, unless peer itself has an address of the same scope. A private address is
// reached by name with TLS as well, for the certificate tells whose it is: the interface
// endpoint of S3 in a VPC has one, to which a registry with a public one sends us.
type addressGuard struct {
	peer   string // a host without port
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	proxies sync.Map // addresses of proxies, which the user has named
}

func newAddressGuard(hostport string) *addressGuard {
	return &addressGuard{peer: hostname(hostport), lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}}
}

func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return hostport
	}
	return host
}

// proxy is http.Transport's Proxy, and remembers what it gives.
func (g *addressGuard) proxy(of func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(req *http.Request) (*url.URL, error) {
		u, err := of(req)
		if u != nil {
			g.proxies.Store(u.Hostname(), true)
		}
		return u, err
	}
}

// checkLiteral refuses a request to a literal address, which a proxy would send on
// without a look.
func (g *addressGuard) checkLiteral(ctx context.Context, u *url.URL) error {
	host := u.Hostname()
	if host == g.peer {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) {
		ascii, err := idna.Lookup.ToASCII(name) // as net/http writes it
		if err != nil {
			return &AddressError{Host: host}
		}
		name = strings.TrimSuffix(ascii, ".")
	}
	ip, err := netip.ParseAddr(name)
	last := name[strings.LastIndex(name, ".")+1:]
	switch {
	case err == nil:
		return g.check(ctx, host, ip, false)
	case last == "localhost", name == "ip6-localhost", name == "ip6-loopback":
		return g.check(ctx, host, netip.AddrFrom4([4]byte{127, 0, 0, 1}), false)
	case last == "" || '0' <= last[0] && last[0] <= '9': // 127.1 and 0x7f000001, as some resolvers read them
		return &AddressError{Host: host}
	}
	return nil
}

// check looks at the address of a host; verified says that a certificate will tell
// whose it is.
func (g *addressGuard) check(ctx context.Context, host string, ip netip.Addr, verified bool) error {
	s := scopeOf(ip)
	if s == public || s == private && verified {
		return nil
	}
	own, err := g.lookup(ctx, g.peer)
	if err == nil {
		for _, a := range own {
			if scopeOf(a) == s {
				return nil
			}
		}
	}
	return &AddressError{Host: host, IP: ip}
}

// withTLS is the key of a request's context that says that it goes over TLS to a name.
type withTLS struct{}

// dial is http.Transport's DialContext. It looks at the address that is really
// connected to, so that a name cannot change its mind in between.
func (g *addressGuard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	host := hostname(addr)
	if _, proxy := g.proxies.Load(host); host != g.peer && !proxy {
		d.ControlContext = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
			ip, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return g.check(ctx, host, ip.Addr(), ctx.Value(withTLS{}) == true)
		}
	}
	return d.DialContext(ctx, network, addr)
}
