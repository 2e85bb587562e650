package endpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// environment is a HOME with some files, and variables.
func environment(t *testing.T, vars, files map[string]string) (getenv func(string) string, home string) {
	t.Helper()
	home = t.TempDir()
	for name, text := range files {
		path := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return func(key string) string {
		if key == "HOME" {
			return home
		}
		return strings.ReplaceAll(vars[key], "HOME", home)
	}, home
}

// TestBuildx: the nodes of each driver of docker buildx, and what is said of those that are no
// buildkitd here.
func TestBuildx(t *testing.T) {
	vars := map[string]string{"BUILDX_CONFIG": "HOME/buildx", "DOCKER_HOST": "tcp://here:2375"}
	container := func(engine string) string {
		return fmt.Sprintf(`{"Driver":"docker-container","Nodes":[{"Name":"own0","Endpoint":%q}]}`, engine)
	}
	for name, tt := range map[string]struct {
		file string
		want []string // endpoints, or what the error and its fix say
	}{
		"remote": {`{"Driver":"remote","Nodes":[{"Name":"a","Endpoint":"tcp://a:1"},{"Name":"b","Endpoint":"unix:///b"}]}`,
			[]string{"tcp://a:1 (buildx:own)", "unix:///b (buildx:own)"}},
		"a container of a context": {container("desk"),
			[]string{"docker-container://buildx_buildkit_own0?context=desk (buildx:own)"}},
		"a container of the engine here": {container("tcp://here:2375"),
			[]string{"docker-container://buildx_buildkit_own0 (buildx:own)"}},
		"a container of another engine": {container("tcp://far:2375"),
			[]string{`the container of the builder "own" is in the engine at tcp://far:2375`, "set DOCKER_HOST=tcp://far:2375"}},
		"the engine's own": {`{"Driver":"docker","Nodes":[{"Name":"default"}]}`,
			[]string{"a Docker engine's own", "use builder: docker"}},
		"pods": {`{"Driver":"kubernetes","Nodes":[{"Name":"own0"}]}`,
			[]string{"the driver kubernetes", "kube-pod://POD"}},
		"no nodes": {`{"Driver":"remote"}`, []string{"names no node", "docker buildx inspect own"}},
		"no JSON":  {`{`, []string{"names no node", "docker buildx inspect own"}},
		"no file":  {"", []string{`there is no builder "own"`, "docker buildx ls"}},
	} {
		files := map[string]string{}
		if tt.file != "" {
			files["buildx/instances/own"] = tt.file
		}
		getenv, _ := environment(t, vars, files)
		found, err := Nodes("buildx:own", getenv)
		var got []string
		for _, e := range found {
			got = append(got, e.String())
		}
		if err == nil {
			if !slices.Equal(got, tt.want) {
				t.Errorf("%s: %q", name, got)
			}
			continue
		}
		var u *UnreachableError
		if !errors.As(err, &u) || !strings.Contains(u.Err.Error(), tt.want[0]) ||
			!strings.Contains(u.Fix, tt.want[len(tt.want)-1]) {
			t.Errorf("%s: %v, %+v", name, err, u)
		}
	}
}

// TestBuildKitOptions: certificates count for TCP alone, and one that is not there is named.
func TestBuildKitOptions(t *testing.T) {
	vars := map[string]string{"BUILDKIT_CERT_PATH": "HOME/c"}
	for name, tt := range map[string]struct {
		address string
		files   map[string]string
		options int
		missing string
	}{
		"a socket":             {"unix:///b", nil, 0, ""},
		"an authority":         {"tcp://b:1", map[string]string{"c/ca.pem": ""}, 1, ""},
		"a client certificate": {"tcp://b:1", map[string]string{"c/ca.pem": "", "c/cert.pem": "", "c/key.pem": ""}, 2, ""},
		"no authority":         {"tcp://b:1", nil, 0, "c/ca.pem"},
		"no key":               {"tcp://b:1", map[string]string{"c/ca.pem": "", "c/cert.pem": ""}, 0, "c/key.pem"},
	} {
		getenv, home := environment(t, vars, tt.files)
		opts, err := BuildKit(tt.address, getenv).BuildKitOptions()
		if tt.missing == "" {
			if err != nil || len(opts) != tt.options {
				t.Errorf("%s: %d options, %v", name, len(opts), err)
			}
			continue
		}
		var u *UnreachableError
		if !errors.As(err, &u) || u.Err.Error() != "there is no "+filepath.Join(home, tt.missing) ||
			!strings.Contains(u.Fix, "BUILDKIT_CERT_PATH names a folder") {
			t.Errorf("%s: %v", name, err)
		}
	}
	getenv, _ := environment(t, map[string]string{"BUILDX_CONFIG": "HOME"}, map[string]string{"instances/own": `{
		"Driver":"remote","Nodes":[{"Name":"a","Endpoint":"tcp://a:1",
		"DriverOpts":{"cacert":"/nowhere/ca.pem","servername":"b"}}]}`})
	nodes, err := Nodes("buildx:own", getenv)
	if err != nil || len(nodes) != 1 {
		t.Fatal(nodes, err)
	}
	var u *UnreachableError
	if _, err := nodes[0].BuildKitOptions(); !errors.As(err, &u) || !strings.Contains(u.Fix, "docker buildx inspect own") {
		t.Error(err)
	}
}
