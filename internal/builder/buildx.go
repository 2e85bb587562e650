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

// BuildxEndpoint is the buildkitd of a builder that docker buildx create has made. buildx keeps
// a file of JSON for each. Its error is an *UnreachableError.
// https://github.com/docker/buildx/blob/v0.38.2/store/nodegroup.go
func BuildxEndpoint(name string, getenv func(string) string) (Endpoint, error) {
	fail := func(fix, format string, args ...any) (Endpoint, error) {
		return Endpoint{}, &UnreachableError{Endpoint: Endpoint{BuildKit: plan.BuildxPrefix + name},
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
	if len(found.Nodes) > 1 {
		return fail("name one of them by its address", "the builder %q of docker buildx has several nodes", name)
	}
	node := found.Nodes[0]
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
	return e, nil
}
