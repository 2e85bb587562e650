package endpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/client"
)

// TestFind follows docker's own order.
func TestFind(t *testing.T) {
	home := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256([]byte("desk"))
	id := hex.EncodeToString(sum[:])
	write("contexts/meta/"+id+"/meta.json", `{"Endpoints":{"docker":{"Host":"unix:///desk.sock"}}}`)
	write("contexts/tls/"+id+"/docker/ca.pem", "")
	sum = sha256.Sum256([]byte("empty"))
	write("contexts/meta/"+hex.EncodeToString(sum[:])+"/meta.json", `{}`)
	write("config.json", `{"currentContext":"desk"}`)
	for name, tt := range map[string]struct {
		env  map[string]string
		want Endpoint
		text string
	}{
		"buildkit": {map[string]string{"BUILDKIT_HOST": "tcp://b", "DOCKER_HOST": "x"},
			Endpoint{BuildKit: "tcp://b"}, "tcp://b"},
		"a host": {map[string]string{"DOCKER_HOST": "tcp://d", "DOCKER_API_VERSION": "1.41"},
			Endpoint{Docker: "tcp://d", version: "1.41"}, "tcp://d"},
		"with TLS": {map[string]string{"DOCKER_HOST": "tcp://d", "DOCKER_CERT_PATH": "/certs"},
			Endpoint{Docker: "tcp://d", tls: "/certs"}, "tcp://d"},
		"with TLS, verified": {map[string]string{"DOCKER_HOST": "tcp://d", "DOCKER_TLS_VERIFY": "1", "DOCKER_CONFIG": home},
			Endpoint{Docker: "tcp://d", tls: home}, "tcp://d"},
		"a named context": {map[string]string{"DOCKER_CONTEXT": "desk", "DOCKER_CONFIG": home},
			Endpoint{Docker: "unix:///desk.sock", Context: "desk",
				tls: filepath.Join(home, "contexts/tls", id, "docker")}, "unix:///desk.sock"},
		"the current one": {map[string]string{"DOCKER_CONFIG": home},
			Endpoint{Docker: "unix:///desk.sock", Context: "desk",
				tls: filepath.Join(home, "contexts/tls", id, "docker")}, "unix:///desk.sock"},
		"the default": {map[string]string{"DOCKER_CONTEXT": "default", "DOCKER_CONFIG": home},
			Endpoint{Docker: client.DefaultDockerHost}, client.DefaultDockerHost},
	} {
		ep, err := Find(func(k string) string { return tt.env[k] })
		if err != nil || ep != tt.want || ep.String() != tt.text {
			t.Errorf("%s: %+v, %v", name, ep, err)
		}
	}
	for _, missing := range []string{"gone", "empty"} {
		_, err := Find(func(k string) string {
			return map[string]string{"DOCKER_CONTEXT": missing,
				"DOCKER_CONFIG": home}[k]
		})
		var e *UnreachableError
		if !errors.As(err, &e) || !strings.Contains(e.Endpoint.String(), missing) {
			t.Errorf("%s: %v", missing, err)
		}
	}
	if _, err := (Endpoint{Docker: "tcp://d:1", tls: home, version: "1.41"}).DockerOptions(); err != nil {
		t.Error(err)
	}
}

func TestIsLocal(t *testing.T) {
	for address, want := range map[string]bool{"unix:///var/run/docker.sock": true, "tcp://127.0.0.1:2375": true,
		"tcp://LOCALHOST:1": true, "tcp://[::1]:1": true, "tcp://10.0.0.1:2376": false, "ssh://host": false,
		"kube-pod://builder": false} {
		if got := (Endpoint{Docker: address}).IsLocal(); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
