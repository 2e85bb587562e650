package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/docker/cli/cli/connhelper/commandconn"
	bkclient "github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // docker-container://
	_ "github.com/moby/buildkit/client/connhelper/kubepod"         // kube-pod://
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer" // podman-container://
	_ "github.com/moby/buildkit/client/connhelper/ssh"             // ssh:// of a buildkitd
)

// sshDialer reaches a Docker engine by way of the docker client of its host, as docker itself does.
// https://docs.docker.com/engine/security/protect-access/#use-ssh-to-protect-the-docker-daemon-socket
func sshDialer(address string) (func(ctx context.Context, network, addr string) (net.Conn, error), error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("the address of the engine behind ssh names no host") // its error would show a password
	}
	if _, password := u.User.Password(); password {
		return nil, errors.New("an ssh:// address cannot have a password; ssh takes a key, or an agent's")
	}
	args := []string{"-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=30", "-T"}
	if u.User != nil {
		args = append(args, "-l", u.User.Username())
	}
	if u.Port() != "" {
		args = append(args, "-p", u.Port())
	}
	args = append(args, "--", u.Hostname(), "docker")
	if u.Path != "" && u.Path != "/" {
		args = append(args, "--host", "'unix://"+strings.ReplaceAll(u.Path, "'", `'\''`)+"'") // for the shell there
	}
	args = append(args, "system", "dial-stdio")
	var mu sync.Mutex
	return func(context.Context, string, string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		time.Sleep(sshPause)
		return commandconn.New(context.Background(), "ssh", args...) // the connection outlives the dialing
	}, nil
}

// sshPause comes before each connection: an sshd refuses some of those that begin while ten others
// have not logged in yet (MaxStartups).
const sshPause = 50 * time.Millisecond

// buildkitOptions are what BuildKit's client needs for the endpoint beside its address.
func (e Endpoint) buildkitOptions() ([]bkclient.ClientOpt, error) {
	c := e.certificates
	if c == (certificates{}) {
		return nil, nil
	}
	for _, file := range []string{c.ca, c.cert, c.key} {
		if file != "" && !exists(file) {
			return nil, &UnreachableError{Endpoint: e, Err: fmt.Errorf("there is no %s", file), Fix: e.certificatesFix()}
		}
	}
	u, err := url.Parse(e.BuildKit)
	if err != nil {
		return nil, err
	}
	name := cmp.Or(c.serverName, u.Hostname())
	opts := []bkclient.ClientOpt{bkclient.WithServerConfigSystem(name)}
	if c.ca != "" {
		opts = []bkclient.ClientOpt{bkclient.WithServerConfig(name, c.ca)}
	}
	if c.cert != "" {
		opts = append(opts, bkclient.WithCredentials(c.cert, c.key))
	}
	return opts, nil
}

func (e Endpoint) certificatesFix() string {
	if e.buildx != "" {
		return "docker buildx inspect " + e.buildx + " says which files it was made with"
	}
	return "BUILDKIT_CERT_PATH names a folder with ca.pem, and cert.pem and key.pem where the buildkitd asks for a certificate"
}
