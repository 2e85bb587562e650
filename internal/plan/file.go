package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/goccy/go-yaml/ast"
)

// config is ecsbuild.yml as it was written.
type config struct {
	region, account, tag string
	images               []imageConfig
	definitions          []definitionsConfig
	hub                  *loginConfig
	logins               []loginConfig
	warnings             []string
}

type imageConfig struct {
	place string // for errors found later
	Image
	dockerfile string
}

type definitionsConfig struct {
	place string
	Definitions
}

type loginConfig struct {
	place, host        string
	username, password Source
}

// maxFile bounds the configuration file, in bytes.
const maxFile = 1 << 20

// findFile gives the configuration's path and content, or "" where there is none.
func findFile(dir, name string) (string, []byte, error) {
	names := []string{"ecsbuild.yml", "ecsbuild.yaml"}
	if name != "" {
		names = []string{name}
	}
	for _, n := range names {
		path := n
		if !filepath.IsAbs(n) {
			path = filepath.Join(dir, n)
		}
		data, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && name == "":
			continue
		case errors.Is(err, fs.ErrNotExist):
			return "", nil, &Error{What: "there is no file " + path, Fix: "name the configuration with -f, or leave -f out to use the environment alone"}
		case err != nil:
			return "", nil, &Error{What: "cannot read " + path, Why: err.Error()}
		case len(data) > maxFile:
			return "", nil, &Error{What: path + " is larger than 1 MB", Fix: "is this the right file?"}
		}
		return path, data, nil
	}
	return "", nil, nil
}

// parse reads ecsbuild.yml; every error names its line and column.
func parse(name string, data []byte, lookup func(string) (string, bool)) (*config, error) {
	d, root, err := parseYAML(name, data, lookup)
	if err != nil {
		return nil, err
	}
	c := &config{}
	if root == nil {
		return c, nil // an empty file is the environment alone
	}
	err = d.mapping("the configuration", map[string]reader{
		"region":  d.checked("region", &c.region, orEmpty(checkRegion)),
		"account": d.checked("account", &c.account, orEmpty(checkAccount)),
		"tag":     d.checked("tag", &c.tag, checkTag),
		"docker_hub": func(n ast.Node) error {
			c.hub = &loginConfig{host: DockerHub, place: d.fail(n, "", "").Place}
			return d.login(c.hub, false)(n)
		},
		"registries": d.list("registries", func(n ast.Node) error {
			l := loginConfig{place: d.fail(n, "", "").Place}
			if err := d.login(&l, true)(n); err != nil {
				return err
			}
			c.logins = append(c.logins, l)
			return nil
		}),
		"images": d.list("images", func(n ast.Node) error {
			img, err := d.image(n)
			c.images = append(c.images, img)
			return err
		}),
		"definitions": d.list("definitions", func(n ast.Node) error {
			def, err := d.definition(n)
			c.definitions = append(c.definitions, def)
			return err
		}),
	})(root)
	c.warnings = d.warnings
	return c, err
}

// orEmpty lets a variable that is unset mean the default.
func orEmpty(check func(string) *Error) func(string) *Error {
	return func(s string) *Error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

func (d *document) source(what string, into *Source, literal bool) reader {
	return func(n ast.Node) error {
		s, err := d.scalar(what, n)
		if err != nil {
			return err
		}
		var e *Error
		if *into, e = parseSource(s, literal, d.lookup); e != nil {
			e.What = what + ": " + e.What
			return d.at(n, e)
		}
		return nil
	}
}

func (d *document) login(l *loginConfig, withHost bool) reader {
	keys := map[string]reader{
		"username": d.source("username", &l.username, true),
		"password": d.source("password", &l.password, false),
	}
	if withHost {
		keys["host"] = d.checked("host", &l.host, checkHost)
	}
	return func(n ast.Node) error {
		if err := d.mapping("a registry account", keys)(n); err != nil {
			return err
		}
		switch {
		case withHost && l.host == "":
			return d.fail(n, "a registry account without host", "add host, as in ghcr.io")
		case l.username.Kind == "" || l.password.Kind == "":
			return d.fail(n, "a registry account needs username and password", "")
		}
		return nil
	}
}

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

func (d *document) definition(n ast.Node) (definitionsConfig, error) {
	def := definitionsConfig{place: d.fail(n, "", "").Place}
	def.Format = ImageDefinitions
	err := d.mapping("a definitions file", map[string]reader{
		"file":       d.text("file", &def.File),
		"containers": d.texts("containers", &def.Containers, checkContainer),
		"format": d.checked("format", &def.Format, func(s string) *Error {
			if s == ImageDefinitions || s == ImageDetail {
				return nil
			}
			return &Error{What: fmt.Sprintf("%q is not a format", s), Fix: "the formats are image-definitions and image-detail"}
		}),
		"service": func(n ast.Node) error {
			def.Service = &Service{Cluster: "default"}
			err := d.mapping("service", map[string]reader{
				"cluster": d.text("cluster", &def.Service.Cluster),
				"name":    d.text("name", &def.Service.Name),
			})(n)
			if err == nil && def.Service.Name == "" {
				err = d.fail(n, "a service without name", "name the ECS service that is deployed")
			}
			return err
		},
	})(n)
	return def, err
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

func checkHost(h string) *Error {
	if hostPattern.MatchString(h) {
		return nil
	}
	return &Error{What: fmt.Sprintf("%q is not a registry's host", h), Fix: "write the host alone, as in ghcr.io or registry.example.com:5000"}
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

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
