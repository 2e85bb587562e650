package plan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/goccy/go-yaml/ast"
)

func (d *document) image(n ast.Node) (imageConfig, error) {
	img := imageConfig{place: d.fail(n, "", "").Place}
	b := &img.Build
	err := d.mapping("an image", map[string]reader{
		"container":           d.texts("container", &img.Containers, checkContainer),
		"containers":          d.texts("containers", &img.Containers, checkContainer),
		"repository":          d.checked("repository", &img.Repository, checkRepository),
		"tags":                d.texts("tags", &img.Tags, checkTag),
		"context":             d.text("context", &b.Context),
		"dockerfile":          d.text("dockerfile", &img.dockerfile),
		"target":              d.text("target", &b.Target),
		"args":                d.pairs("args", &b.Args, "=", true),
		"labels":              d.pairs("labels", &b.Labels, "=", false),
		"platforms":           d.texts("platforms", &b.Platforms, checkPlatform),
		"secrets":             d.secrets(&b.Secrets),
		"cache_from":          d.texts("cache_from", &b.CacheFrom, checkCache),
		"cache_to":            d.texts("cache_to", &b.CacheTo, checkCache),
		"no_cache":            d.boolean("no_cache", &b.NoCache),
		"pull":                d.boolean("pull", &b.Pull),
		"network":             d.checked("network", &b.Network, checkNetwork),
		"extra_hosts":         d.extraHosts(&b.ExtraHosts),
		"shm_size":            d.bytes("shm_size", &b.ShmSize),
		"additional_contexts": d.pairs("additional_contexts", &b.AdditionalContexts, "=", false),
		"ssh":                 d.texts("ssh", &b.SSH, nil),
		"create_repository":   d.creation(&img.Create),
		"on_immutable": d.checked("on_immutable", &img.OnImmutable, func(s string) *Error {
			if s == AcceptSame || s == FailTaken {
				return nil
			}
			return &Error{What: fmt.Sprintf("%q is not understood", s), Fix: "write accept-same or fail"}
		}),
	})(n)
	switch {
	case err != nil:
	case len(img.Containers) == 0:
		err = d.fail(n, "an image without container", "name the container in your task definition that runs it")
	case img.Repository == "":
		err = d.fail(n, fmt.Sprintf("the image of container %s has no repository", img.Containers[0]), "add repository, the name in ECR")
	}
	return img, err
}

// creation reads true, false, or how the repository shall be.
func (d *document) creation(into **Creation) reader {
	return func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		c := &Creation{}
		if k := kind(r); k != "a mapping" {
			on := false
			if err := d.boolean("create_repository", &on)(n); err != nil {
				return err
			}
			if on {
				*into = c
			}
			return nil
		}
		var file string
		var place ast.Node
		*into = c
		err = d.mapping("create_repository", map[string]reader{
			"scan_on_push": d.boolean("scan_on_push", &c.ScanOnPush),
			"immutable":    d.boolean("immutable", &c.Immutable),
			"lifecycle_policy": func(n ast.Node) error {
				place = n
				return d.text("lifecycle_policy", &file)(n)
			},
		})(n)
		if err != nil || file == "" {
			return err
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(d.path), file)
		}
		data, err := os.ReadFile(file)
		if err != nil || !json.Valid(data) {
			return d.fail(place, "lifecycle_policy: "+file+" is not a file with a JSON policy", "write the policy text of aws ecr put-lifecycle-policy into it")
		}
		c.LifecyclePolicy = string(data)
		return nil
	}
}

func (d *document) secrets(into *map[string]Source) reader {
	return func(n ast.Node) error {
		*into = map[string]Source{}
		return d.each("secrets", n, func(key string, _, v ast.Node) error {
			var s Source
			err := d.source("secrets."+key, &s, false)(v)
			(*into)[key] = s
			return err
		})
	}
}

// extraHosts reads "host=ip" or "host:ip", in a list, or a mapping; a host may
// have several addresses.
func (d *document) extraHosts(into *[]string) reader {
	add := func(n ast.Node, host, ip string) error {
		ip = strings.Trim(ip, "[]")
		if _, err := netip.ParseAddr(ip); err != nil && ip != HostGateway || host == "" {
			return d.fail(n, fmt.Sprintf("extra_hosts: %q is not an address", ip), "write HOST=IP, or HOST="+HostGateway)
		}
		*into = append(*into, host+"="+ip)
		return nil
	}
	return func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		if _, ok := r.(*ast.SequenceNode); ok {
			return d.list("extra_hosts", func(n ast.Node) error {
				s, err := d.scalar("extra_hosts", n)
				if err != nil {
					return err
				}
				i := strings.IndexAny(s, "=:")
				if i < 0 {
					return d.fail(n, fmt.Sprintf("extra_hosts: %q is not of the form host=ip", s), "")
				}
				return add(n, s[:i], s[i+1:])
			})(n)
		}
		return d.each("extra_hosts", n, func(host string, _, v ast.Node) error {
			s, err := d.scalar("extra_hosts."+host, v)
			if err != nil {
				return err
			}
			return add(v, host, s)
		})
	}
}

// HostGateway stands for the address that the engine's host has in a build.
const HostGateway = "host-gateway"

func (d *document) bytes(what string, into *int64) reader {
	return func(n ast.Node) error {
		s, err := d.scalar(what, n)
		if err != nil {
			return err
		}
		v, err := units.RAMInBytes(s)
		if err != nil || v < 0 {
			return d.fail(n, fmt.Sprintf("%s must be a size, not %q", what, s), "write it as in 64m, 1gb, or in bytes")
		}
		*into = v
		return nil
	}
}

// checkCache takes an image's name, or what docker buildx takes.
func checkCache(c string) *Error {
	if !strings.Contains(c, "=") && c != "" {
		return nil
	}
	types := []string{"registry", "inline", "local"}
	for _, kv := range strings.Split(c, ",") {
		if t, ok := strings.CutPrefix(kv, "type="); ok && slices.Contains(types, t) {
			return nil
		}
	}
	return &Error{What: fmt.Sprintf("%q is not a cache", c), Fix: "write an image name, or type=T,… as docker buildx does, T being one of " + strings.Join(types, ", ")}
}

var platformPattern = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?$`)

func checkPlatform(p string) *Error {
	if platformPattern.MatchString(p) {
		return nil
	}
	return &Error{What: fmt.Sprintf("%q is not a platform", p), Fix: "write it as in linux/amd64 or linux/arm64"}
}

func checkNetwork(n string) *Error {
	if slices.Contains([]string{"default", "none", "host"}, n) {
		return nil
	}
	return &Error{What: fmt.Sprintf("%q is not a network that a build can have", n), Fix: "BuildKit knows default, none and host"}
}
