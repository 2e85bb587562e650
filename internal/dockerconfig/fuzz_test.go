package dockerconfig

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzConfig: docker's config.json is read, or refused. Programs that it names are not run here.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"ghcr.io":{"identitytoken":"t"}},"proxies":{"default":{"httpProxy":"http://p"}}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"auths":{"a":null},"proxies":null}`))
	f.Setenv("PATH", f.TempDir())
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Open(func(name string) string {
			return map[string]string{"DOCKER_CONFIG": dir, "DOCKER_AUTH_CONFIG": string(data)}[name]
		})
		if err != nil {
			return
		}
		_, _, _ = c.Account(t.Context(), "docker.io")
		_, _, _ = c.Account(t.Context(), "ghcr.io")
		c.Proxies("unix:///var/run/docker.sock")
	})
}
