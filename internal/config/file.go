package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// fileConfig is ecsbuild.yml as it was written.
type fileConfig struct {
	region, account string
	tags            []string // of images that name none
	builder         builderConfig
	images          []imageConfig
	definitions     []definitionsConfig // nil where nothing is said of them, empty for none
	gates           []plan.Gate
	hub             *loginConfig
	logins          []loginConfig
	warnings        []string
}

type imageConfig struct {
	place string // for errors found later
	plan.Image
	dockerfile string
	unset      fault.Errors // secrets whose variables are not set, where the image may be left out
}

type loginConfig struct {
	place, host        string
	username, password plan.Source
}

// maxFile bounds the configuration file, in bytes.
const maxFile = 1 << 20

// findFile returns the configuration's path and content, or "" where there is none.
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
			return "", nil, &fault.Error{What: "there is no file " + path,
				Fix: "name the configuration with -f, or leave -f out to use the environment alone"}
		case err != nil:
			return "", nil, &fault.Error{What: "cannot read " + path, Why: err.Error()}
		case len(data) > maxFile:
			return "", nil, &fault.Error{What: path + " is larger than 1 MB", Fix: "is this the right file?"}
		}
		return path, data, nil
	}
	return "", nil, nil
}

// parse reads ecsbuild.yml; every error names its line and column.
func parse(name string, data []byte, lookup func(string) (string, bool), unset unsetSecrets) (*fileConfig, error) {
	d, root, err := parseYAML(name, data, lookup)
	if err != nil {
		return nil, err
	}
	d.unset = unset
	c := &fileConfig{}
	if _, null := root.(*ast.NullNode); root == nil || null {
		return c, nil // an empty file is the environment alone
	}
	err = d.mapping("the configuration", d.configKeys(c))(root)
	c.warnings = d.warnings
	if err != nil { // the files that a failed run must not leave are wanted all the same
		c.definitions = nil
		_ = d.each("", root, func(key string, _, v ast.Node) error {
			if key == "definitions" {
				_ = d.list("", func(n ast.Node) error {
					c.definitions = append(c.definitions, d.named(n))
					return nil
				})(v)
			}
			return nil
		})
	}
	return c, err
}

// named is a definitions file of which nothing is known but its name.
func (d *document) named(n ast.Node) (def definitionsConfig) {
	_ = d.each("", n, func(key string, _, v ast.Node) error {
		if key == "file" {
			_ = d.text("", &def.File).read(v)
		}
		return nil
	})
	return def
}

// configKeys are those of the whole file.
func (d *document) configKeys(c *fileConfig) map[string]field {
	return map[string]field{
		"region":  d.checked("region", &c.region, orEmpty(checkRegion)),
		"account": d.checked("account", &c.account, orEmpty(checkAccount)),
		"tag":     d.tags("tag", &c.tags).each(isTag),
		"builder": d.builder(&c.builder),
		"docker_hub": {func(n ast.Node) error {
			c.hub = &loginConfig{host: plan.DockerHub, place: d.fail(n, "", "").Place}
			return d.login(c.hub, false)(n)
		}, isObject(d.loginKeys(&loginConfig{}, false), "username", "password")},
		"registries": {d.list("registries", func(n ast.Node) error {
			l := loginConfig{place: d.fail(n, "", "").Place}
			if err := d.login(&l, true)(n); err != nil {
				return err
			}
			c.logins = append(c.logins, l)
			return nil
		}), isList(isObject(d.loginKeys(&loginConfig{}, true), "host", "username", "password"))},
		"gates": d.gates(&c.gates),
		"images": {d.some("images", func(n ast.Node) error {
			img, err := d.image(n)
			c.images = append(c.images, img)
			return err
		}), isSome(isObject(d.imageKeys(&imageConfig{}), "repository"))},
		"definitions": {func(n ast.Node) error {
			c.definitions = []definitionsConfig{}
			return d.list("definitions", func(n ast.Node) error {
				def, err := d.definition(n)
				c.definitions = append(c.definitions, def)
				return err
			})(n)
		}, isList(isObject(d.definitionKeys(&definitionsConfig{})))},
	}
}

// orEmpty lets a variable that is unset mean the default.
func orEmpty(check func(string) *fault.Error) func(string) *fault.Error {
	return func(s string) *fault.Error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

func (d *document) source(what string, into *plan.Source, literal bool) field {
	return field{func(n ast.Node) error {
		s, err := d.scalar(what, n)
		if err != nil {
			return err
		}
		lookup := d.lookup
		if d.unset == unsetAllowed {
			lookup = func(name string) (string, bool) { v, _ := d.lookup(name); return v, true }
		}
		var e *fault.Error
		if *into, e = parseSource(s, literal, lookup); e != nil {
			e.What = what + ": " + e.What
			return d.at(n, e)
		}
		return nil
	}, isText}
}

func (d *document) loginKeys(l *loginConfig, withHost bool) map[string]field {
	keys := map[string]field{
		"username": d.source("username", &l.username, true),
		"password": d.source("password", &l.password, false).as(isSecret),
	}
	if withHost {
		keys["host"] = d.checked("host", &l.host, checkHost).as(isWord(hostPattern))
	}
	return keys
}

func (d *document) login(l *loginConfig, withHost bool) reader {
	return func(n ast.Node) error {
		if err := d.mapping("a registry account", d.loginKeys(l, withHost))(n); err != nil {
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

func checkHost(h string) *fault.Error {
	if hostPattern.MatchString(h) {
		return nil
	}
	return &fault.Error{What: fmt.Sprintf("%q is not a registry's host", h),
		Fix: "write the host alone, as in ghcr.io or registry.example.com:5000"}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
