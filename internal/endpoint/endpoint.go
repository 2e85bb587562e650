// Package endpoint knows where engines listen and how they are reached: by the addresses, contexts,
// builders and certificates that docker, docker buildx and buildctl take from the environment and
// from their files.
package endpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"

	"github.com/ecsbuild/ecsbuild/internal/dockerconfig"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// An Endpoint is where an engine listens.
type Endpoint struct {
	BuildKit string // address of a standalone buildkitd; then those of a Docker engine are empty
	Docker   string // address of a Docker engine, such as unix:///var/run/docker.sock
	Context  string // the docker context that it comes from, "" for none
	version  string // of the API, "" to negotiate it
	tls      string // folder with ca.pem, cert.pem and key.pem of a Docker engine, "" for none

	certificates certificates // of a buildkitd
	buildx       string       // the builder of that name, "" for none
}

// Buildx is the name of docker buildx's builder, "" for none.
func (e Endpoint) Buildx() string { return e.buildx }

func (e Endpoint) String() string {
	switch {
	case e.buildx != "":
		return e.BuildKit + " (" + plan.BuildxPrefix + e.buildx + ")"
	case e.BuildKit != "":
		return e.BuildKit
	case e.Docker == "":
		return "docker context " + e.Context
	}
	return e.Docker
}

// IsLocal says that an engine is on this machine.
func (e Endpoint) IsLocal() bool {
	address := e.BuildKit + e.Docker
	if strings.HasPrefix(address, "unix://") || strings.HasPrefix(address, "npipe://") {
		return true
	}
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "tcp" && plan.IsLoopback(strings.ToLower(u.Hostname()))
}

// UnreachableError says that no engine answered.
type UnreachableError struct {
	Endpoint Endpoint
	Lost     bool // it had answered before
	Err      error
	Fix      string // what to do where nothing was asked, since Err says that the endpoint cannot be used
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot reach %s: %v", e.Endpoint, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Find follows the docker client: BUILDKIT_HOST, DOCKER_HOST,
// DOCKER_CONTEXT, the current context of docker's configuration, and last the
// usual socket. People with Docker Desktop or colima have the third.
func Find(getenv func(string) string) (Endpoint, error) {
	e, err := find(getenv)
	e.version = getenv("DOCKER_API_VERSION")
	return e, err
}

// FindDocker is Find for docker's own commands, which know no BUILDKIT_HOST.
func FindDocker(getenv func(string) string) (Endpoint, error) {
	return Find(func(key string) string {
		if key == "BUILDKIT_HOST" {
			return ""
		}
		return getenv(key)
	})
}

func find(getenv func(string) string) (Endpoint, error) {
	if h := getenv("BUILDKIT_HOST"); h != "" {
		return BuildKit(h, getenv), nil
	}
	if h := getenv("DOCKER_HOST"); h != "" {
		e := Endpoint{Docker: h}
		if getenv("DOCKER_TLS_VERIFY") != "" || getenv("DOCKER_CERT_PATH") != "" {
			if e.tls = getenv("DOCKER_CERT_PATH"); e.tls == "" {
				e.tls = dockerconfig.Folder(getenv)
			}
		}
		return e, nil
	}
	name := getenv("DOCKER_CONTEXT")
	if name == "" {
		name = currentContext(dockerconfig.Folder(getenv))
	}
	if name == "" || name == "default" {
		return Endpoint{Docker: client.DefaultDockerHost}, nil
	}
	return readContext(dockerconfig.Folder(getenv), name)
}

func currentContext(folder string) string {
	var cfg struct {
		CurrentContext string `json:"currentContext"`
	}
	if folder == "" {
		return ""
	}
	if data, err := os.ReadFile(filepath.Join(folder, "config.json")); err == nil {
		_ = json.Unmarshal(data, &cfg) // a broken file means the default, as it does to docker
	}
	return cfg.CurrentContext
}

// readContext reads a context from docker's store, whose folders are named by
// the hash of the context's name.
func readContext(folder, name string) (Endpoint, error) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	data, err := os.ReadFile(filepath.Join(folder, "contexts", "meta", id, "meta.json"))
	if err != nil {
		return Endpoint{}, &UnreachableError{Endpoint: Endpoint{Context: name},
			Err: fmt.Errorf("there is no docker context %q", name),
			Fix: "choose one with docker context use (docker context ls lists them), or set DOCKER_HOST"}
	}
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	if err := json.Unmarshal(data, &meta); err != nil || meta.Endpoints["docker"].Host == "" {
		return Endpoint{}, &UnreachableError{Endpoint: Endpoint{Context: name},
			Err: fmt.Errorf("the docker context %q names no engine", name),
			Fix: "choose another one with docker context use, or set DOCKER_HOST"}
	}
	e := Endpoint{Docker: meta.Endpoints["docker"].Host, Context: name}
	if certs := filepath.Join(folder, "contexts", "tls", id, "docker"); exists(certs) {
		e.tls = certs
	}
	return e, nil
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// DockerOptions are what the docker client needs for the endpoint.
func (e Endpoint) DockerOptions() ([]client.Opt, error) {
	opts := []client.Opt{client.WithHost(e.Docker)}
	if strings.HasPrefix(e.Docker, "ssh://") {
		dial, err := sshDialer(e.Docker)
		if err != nil {
			return nil, &UnreachableError{Endpoint: e, Err: err,
				Fix: "write it as ssh://HOST, with a user and an @ before HOST and a port behind it where they are needed"}
		}
		opts = []client.Opt{client.WithHost("http://docker"), client.WithDialContext(dial)}
	}
	if e.version != "" {
		opts = append(opts, client.WithAPIVersion(e.version))
	}
	if e.tls != "" && !strings.HasPrefix(e.Docker, "ssh://") {
		opts = append(opts, client.WithTLSClientConfig(filepath.Join(e.tls, "ca.pem"), filepath.Join(e.tls, "cert.pem"),
			filepath.Join(e.tls, "key.pem")))
	}
	return opts, nil
}
