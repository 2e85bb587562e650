package plan

import (
	"slices"
	"testing"
	"time"
)

// TestSpellings: the names that others compare, each in the one spelling that they have.
func TestSpellings(t *testing.T) {
	for _, tt := range []struct {
		what      string
		spell     func(string) string
		from, get string
	}{
		{"context", ContextName, "base", "base"},
		{"context", ContextName, "docker.io/library/base:latest", "base"},
		{"context", ContextName, "ghcr.io/acme/base:1", "ghcr.io/acme/base:1"},
		{"context", ContextName, "scratch", ""},
		{"context", ContextName, "No Name", ""},
		{"host", CanonicalHost, "https://index.docker.io/v1/", "docker.io"},
		{"host", CanonicalHost, "registry-1.docker.io", "docker.io"},
		{"host", CanonicalHost, "ghcr.io", "ghcr.io"},
		{"platform", NormalPlatform, "linux/arm64/v8", "linux/arm64"},
		{"platform", NormalPlatform, "linux/x86_64", "linux/amd64"},
		{"platform", NormalPlatform, "no/such/plat/form", "no/such/plat/form"},
		{"variable", Variable, "web-1.blue", "WEB_1_BLUE"},
		{"variable", Variable, "größe", "GR__E"},
	} {
		if got := tt.spell(tt.from); got != tt.get {
			t.Errorf("%s %q: %q, want %q", tt.what, tt.from, got, tt.get)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{"localhost": true, "localhost:5000": true, "127.0.0.1:5000": true,
		"127.1.2.3": true, "[::1]:5000": true, "::1": true, "10.0.0.1": false, "localhost.example.com": false, "": false} {
		if IsLoopback(host) != want {
			t.Error(host)
		}
	}
}

func TestRemote(t *testing.T) {
	for context, want := range map[string]bool{"https://h/r.git": true, "git@h:r.git": true, "ssh://git@h/r.git": true,
		"docker-image://base": true, ".": false, "https": false, "./git@h": false} {
		if Remote(context) != want {
			t.Error(context)
		}
	}
}

// TestIsImmutable: a tag that an exception matches may move.
func TestIsImmutable(t *testing.T) {
	c := &Creation{Immutable: true, Except: []string{"latest", "dev-*"}}
	for tag, want := range map[string]bool{"v1": true, "latest": false, "latest2": true, "dev-": false, "dev-1.2": false,
		"a-dev-1": true} {
		if c.IsImmutable(tag) != want {
			t.Error(tag)
		}
	}
	if (&Creation{Except: []string{"x"}}).IsImmutable("v1") {
		t.Error("a tag of a mutable repository cannot move")
	}
}

// TestImageNames: an image is called by a container that no other image has, or by its repository.
func TestImageNames(t *testing.T) {
	for _, tt := range []struct {
		image Image
		name  string
		names []string
	}{
		{Image{Repository: "shop"}, "shop", []string{"shop"}},
		{Image{Repository: "shop", Containers: []string{"web", "worker"}}, "web", []string{"web", "worker"}},
		{Image{ID: "shop", Repository: "shop", Containers: []string{"web"}, Shared: []string{"web"}}, "shop",
			[]string{"shop"}},
		{Image{ID: "worker", Repository: "shop", Containers: []string{"web", "worker"}, Shared: []string{"web"}}, "worker",
			[]string{"worker"}},
	} {
		if tt.image.Name() != tt.name || !slices.Equal(tt.image.Names(), tt.names) {
			t.Errorf("%+v: %s, %v", tt.image, tt.image.Name(), tt.image.Names())
		}
	}
}

func TestEpoch(t *testing.T) {
	if got := (Build{}).Epoch(); !got.Equal(time.Unix(0, 0)) {
		t.Error(got)
	}
	if got := (Build{Args: map[string]string{SourceDateEpoch: "1700000000"}}).Epoch(); got.Unix() != 1700000000 {
		t.Error(got)
	}
}

// TestAccount: an account is named for messages by what it is and where it comes from.
func TestAccount(t *testing.T) {
	for want, a := range map[string]Account{
		"the account u (ssm:ID)": {Username: "u", Password: NewSecret("hunter2"), From: "ssm:ID"},
		"the account u":          {Username: "u"},
		"an identity token":      {Password: NewSecret("hunter2")},
	} {
		if a.String() != want {
			t.Error(a.String())
		}
	}
}

func TestMayBuildInParts(t *testing.T) {
	one, buildx := Node{Address: "tcp://a:1"}, Node{Address: "buildx:own"}
	for _, tt := range []struct {
		nodes []Node
		want  bool
	}{{nil, false}, {[]Node{one}, false}, {[]Node{buildx}, true}, {[]Node{one, one}, true}} {
		if (&Plan{Nodes: tt.nodes}).MayBuildInParts() != tt.want {
			t.Errorf("%+v", tt.nodes)
		}
	}
}
