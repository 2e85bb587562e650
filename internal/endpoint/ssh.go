package endpoint

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/docker/cli/cli/connhelper/commandconn"
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
