package endpoint

import (
	"errors"
	"strings"
	"testing"
)

// TestSSHAddress: what is no address is told without what it may hold of a password.
func TestSSHAddress(t *testing.T) {
	for _, address := range []string{"ssh://host:badport", "ssh://ho st", "ssh://u:s3cret@h:99x", "ssh://",
		"ssh://u:s3cret@host"} {
		_, err := (Endpoint{Docker: address}).DockerOptions()
		var u *UnreachableError
		if !errors.As(err, &u) || u.Fix == "" || strings.Contains(u.Err.Error(), "s3cret") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := (Endpoint{Docker: "ssh://ci@host:2222/run/docker.sock"}).DockerOptions(); err != nil {
		t.Error(err)
	}
}
