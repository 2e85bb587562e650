package builder

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/dockerconfig"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// NodeEndpoints are the buildkitds at the address of a node: one, or those of a builder of docker
// buildx. Its error is an *UnreachableError.
func NodeEndpoints(address string, getenv func(string) string) ([]Endpoint, error) {
	if name, ok := strings.CutPrefix(address, plan.BuildxPrefix); ok {
		return buildxEndpoints(name, getenv)
	}
	return []Endpoint{BuildKitEndpoint(address, getenv)}, nil
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
