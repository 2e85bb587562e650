// Package config turns the environment and ecsbuild.yml into one resolved
// plan.Plan, and describes the file as a JSON Schema.
//
// It is pure: no network, no Docker, no clock. Everything that can be checked
// without them is checked here.
package config

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// Options are what the command line adds to environment and file.
type Options struct {
	Directory    string        // where to look and resolve paths; "" for the working directory
	File         string        // "" for ecsbuild.yml, ecsbuild.yaml, or none
	Only         []string      // container names to keep; empty keeps all
	Platforms    []string      // to keep, for a part of a build; empty keeps all
	Output       string        // replaces the name of the one definitions file
	Builder      string        // replaces that of file and environment; "" for none
	Environ      []string      // "KEY=value", as os.Environ
	UnsetSecrets bool          // env:NAME may name a variable that is not set
	NoSources    bool          // the files of contexts need not be there
	LoginsOnly   bool          // registry and accounts, for login: no images, no definitions
	Commit       func() string // the commit of the checkout, "" for none; asked only when nothing else gives a tag
}

// Commit is the commit that is built, "" where nobody knows.
func Commit(o Options) string {
	b := resolver{env: environment(o.Environ), commit: o.Commit}
	return b.commitID()
}

// DefaultFile is the definitions file that the ECS deploy action looks for.
const DefaultFile = "imagedefinitions.json"

// Load resolves the plan. Its errors are of type *fault.Error or fault.Errors. With an
// error comes what can be told of the files: the definitions, so that a failed
// run can take those of an earlier one away, and the sources, which it must not.
func Load(o Options) (*plan.Plan, error) {
	p, err := load(o)
	if err == nil {
		return p, nil
	}
	dir, _ := filepath.Abs(o.Directory)
	left := &plan.Plan{Directory: dir, Definitions: []plan.Definitions{{File: filepath.Join(dir, DefaultFile)}}}
	if o.Output != "" {
		left.Definitions[0].File = o.Output
		if !filepath.IsAbs(o.Output) {
			left.Definitions[0].File = filepath.Join(dir, o.Output)
		}
	}
	if p != nil {
		left.File, left.Images = p.File, p.Images
	}
	if p != nil && len(p.Definitions) > 0 && o.Output == "" {
		left.Definitions = p.Definitions
	}
	return left, err
}

func load(o Options) (_ *plan.Plan, err error) {
	var file string
	defer func() { fault.SetFile(err, file) }()
	dir, err := filepath.Abs(o.Directory)
	if err != nil {
		return nil, &fault.Error{What: "cannot resolve the directory " + o.Directory, Why: err.Error()}
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, &fault.Error{What: fmt.Sprintf("there is no directory %s", dir),
			Fix: "name the folder of your sources with -C"}
	}
	env := environment(o.Environ)
	p := &plan.Plan{Directory: dir}
	cfg := &fileConfig{}
	b := resolver{plan: p, env: env, commit: o.Commit}
	if name, data, err := findFile(dir, o.File); err != nil {
		return nil, err
	} else if name != "" {
		p.File, file = name, name
		unset := unsetRefused
		switch {
		case o.UnsetSecrets:
			unset = unsetAllowed
		case len(o.Only)+len(o.Platforms) > 0:
			unset = unsetDeferred
		}
		if cfg, err = parse(name, data, b.lookup, unset); err != nil {
			if cfg != nil {
				b.config = cfg
				p.Definitions = b.files()
			}
			return p, err
		}
		p.Warnings = append(p.Warnings, cfg.warnings...)
	}
	b.config = cfg
	steps := []func() error{b.registry, func() error { return b.builder(o.Builder) }, b.images, b.dockerEnvironment, b.definitions, b.gates, b.logins}
	if o.LoginsOnly {
		steps = []func() error{b.registry, b.logins}
	} else {
		p.Definitions = b.files()
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return p, err
		}
	}
	if o.LoginsOnly {
		return p, nil
	}
	if err := replaceOutput(p, o.Output); err != nil {
		return p, err
	}
	if err := keepOnly(p, o.Only); err != nil {
		return p, err
	}
	if err := keepPlatforms(p, o.Platforms); err != nil {
		return p, err
	}
	if errs := b.unsetSecrets(); errs != nil {
		return p, errs
	}
	if o.NoSources {
		return p, nil
	}
	return p, checkFiles(p)
}
