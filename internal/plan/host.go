package plan

import (
	"net"
	"net/netip"
)

// IsLoopback says that a host, with or without a port, is this machine by its name or address.
func IsLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
