package diagnose

import (
	"errors"
	"strings"
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/endpoint"
)

// TestUnreachable: an engine that is not there is told from one that does not let us in.
func TestUnreachable(t *testing.T) {
	const socket, certificates = "unix:///var/run/docker.sock", "unix:///certificates/d.sock"
	buildkit, tls := endpoint.Endpoint{BuildKit: "tcp://b:1234"}, endpoint.Endpoint{Docker: "tcp://d:2376"}
	for name, tt := range map[string]struct {
		endpoint endpoint.Endpoint
		err      string
		want     []string
	}{
		"no engine in CodeBuild": {endpoint.Endpoint{Docker: socket}, "no such file",
			[]string{"tick Privileged", "--name shop-build"}},
		"docker not for this user": {endpoint.Endpoint{Docker: socket}, "permission denied", []string{"usermod"}},
		"no docker on a laptop": {endpoint.Endpoint{Docker: "unix:///d.sock"}, "no such file",
			[]string{"there is no Docker engine at unix:///d.sock", "start Docker"}},
		"no engine on another host, in CodeBuild": {tls, "connection refused", []string{"start it there"}},
		"an engine that asks for TLS": {tls, "Client sent an HTTP request to an HTTPS server.",
			[]string{"no TLS connection to the Docker engine at tcp://d:2376", "DOCKER_TLS_VERIFY=1, DOCKER_CERT_PATH"}},
		"no certificates": {tls, `configure TLS: could not read CA certificate "/root/.docker/ca.pem"`,
			[]string{"no TLS connection to the Docker engine", "DOCKER_CERT_PATH"}},
		"a context of another engine's certificates": {endpoint.Endpoint{Docker: "tcp://d:2376", Context: "far"},
			"x509: unknown authority", []string{"no TLS connection", "docker context update far"}},
		"a folder of certificates": {endpoint.Endpoint{Docker: certificates}, "dial unix /certificates/d.sock: no such file",
			[]string{"there is no Docker engine at " + certificates}},

		"no buildkitd": {buildkit, "refused", []string{"no buildkitd at tcp://b:1234", "BUILDKIT_HOST"}},
		"a buildkitd that ends the connection": {buildkit, "failed to call info: Unavailable: " +
			"write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe",
			[]string{"no TLS connection to the buildkitd at tcp://b:1234", "BUILDKIT_CERT_PATH"}},
		"a buildkitd that is silent": {buildkit, "error reading server preface: use of closed network connection",
			[]string{"there is no buildkitd at tcp://b:1234"}},
		"another server": {endpoint.Endpoint{BuildKit: "tcp://b:80"},
			"http2: frame too large, note that the frame header looked like an HTTP/1.1 header",
			[]string{"there is no buildkitd at tcp://b:80", "what listens there is another server"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := &endpoint.UnreachableError{Endpoint: tt.endpoint, Err: errors.New(tt.err)}
			checkFinding(t, err, strings.Contains(name, "CodeBuild"), ExitUnreachable, tt.want...)
		})
	}
}
