package endpoint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // docker-container://
	_ "github.com/moby/buildkit/client/connhelper/kubepod"         // kube-pod://
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer" // podman-container://
	_ "github.com/moby/buildkit/client/connhelper/ssh"             // ssh:// of a buildkitd

	"github.com/ecsbuild/ecsbuild/internal/dockerconfig"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// BuildKit is a buildkitd, with the certificates of BUILDKIT_CERT_PATH where it is
// reached by TCP.
func BuildKit(address string, getenv func(string) string) Endpoint {
	e := Endpoint{BuildKit: address}
	if folder := getenv("BUILDKIT_CERT_PATH"); strings.HasPrefix(address, "tcp://") && folder != "" {
		e.certificates = certificates{ca: filepath.Join(folder, "ca.pem")}
		if cert := filepath.Join(folder, "cert.pem"); exists(cert) {
			e.certificates.cert, e.certificates.key = cert, filepath.Join(folder, "key.pem")
		}
	}
	return e
}

// certificates are files for TLS, "" for none.
type certificates struct {
	ca, cert, key string
	serverName    string // "" for the host of the address
}

// Nodes are the buildkitds at the address of a node: one, or those of a builder of docker
// buildx. Its error is an *UnreachableError.
func Nodes(address string, getenv func(string) string) ([]Endpoint, error) {
	if name, ok := strings.CutPrefix(address, plan.BuildxPrefix); ok {
		return buildxEndpoints(name, getenv)
	}
	return []Endpoint{BuildKit(address, getenv)}, nil
}

// buildxEndpoints are the buildkitds of a builder that docker buildx create has made. buildx
// keeps a file of JSON for each.
// https://github.com/docker/buildx/blob/v0.38.2/store/nodegroup.go
func buildxEndpoints(name string, getenv func(string) string) (out []Endpoint, _ error) {
	fail := func(fix, format string, args ...any) ([]Endpoint, error) {
		return nil, &UnreachableError{Endpoint: Endpoint{BuildKit: plan.BuildxPrefix + name},
			Err: fmt.Errorf(format, args...), Fix: fix}
	}
	folder := getenv("BUILDX_CONFIG")
	if folder == "" {
		folder = filepath.Join(dockerconfig.Folder(getenv), "buildx")
	}
	data, err := os.ReadFile(filepath.Join(folder, "instances", name))
	if err != nil {
		return fail("docker buildx ls lists those that there are", "there is no builder %q of docker buildx", name)
	}
	var found struct {
		Driver string
		Nodes  []struct {
			Name, Endpoint string
			DriverOpts     map[string]string
		}
	}
	if err := json.Unmarshal(data, &found); err != nil || len(found.Nodes) == 0 {
		return fail("docker buildx inspect "+name+" says what is wrong with it",
			"the builder %q of docker buildx names no node", name)
	}
	for _, node := range found.Nodes {
		e := Endpoint{buildx: name}
		switch found.Driver {
		case "remote":
			e.BuildKit = node.Endpoint
			e.certificates = certificates{ca: node.DriverOpts["cacert"], cert: node.DriverOpts["cert"],
				key: node.DriverOpts["key"], serverName: node.DriverOpts["servername"]}
		case "docker-container":
			e.BuildKit = "docker-container://buildx_buildkit_" + node.Name
			switch docker, err := FindDocker(getenv); {
			case !strings.Contains(node.Endpoint, "://"):
				e.BuildKit += "?" + url.Values{"context": {node.Endpoint}}.Encode()
			case err != nil || docker.Docker != node.Endpoint:
				return fail("set DOCKER_HOST="+node.Endpoint, "the container of the builder %q is in the engine at %s", name,
					node.Endpoint)
			}
		case "docker":
			return fail("use builder: docker", "the builder %q of docker buildx is a Docker engine's own", name)
		default:
			return fail("name it by its address, such as kube-pod://POD", "the driver %s of the builder %q is not known here",
				found.Driver, name)
		}
		out = append(out, e)
	}
	return out, nil
}

// BuildKitOptions are what BuildKit's client needs for the endpoint beside its address.
func (e Endpoint) BuildKitOptions() ([]bkclient.ClientOpt, error) {
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
	return "BUILDKIT_CERT_PATH names a folder with ca.pem, and cert.pem and key.pem where the buildkitd asks for a " +
		"certificate"
}
