package engine

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// frontend is the image of the Dockerfile's own syntax, which every build of
// BuildKit brings as well.
const frontend = "docker.io/docker/dockerfile"

// knownSyntax are the versions that take a .dockerignore of the Dockerfile's own.
var knownSyntax = regexp.MustCompile(`^(latest|1(\.([2-9]|[1-9][0-9])(\.[0-9]+)?)?)(-labs)?$`)

// external lists the images that a Dockerfile takes something from, by their
// full names: refs, whose digests are to be found, and those that have one.
func external(data []byte, b plan.Build) (refs, pinned []string, err error) {
	defer func() {
		for _, names := range []*[]string{&refs, &pinned} {
			slices.Sort(*names)
			*names = slices.Compact(*names)
		}
	}()
	add := func(name string) error {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return doubt("%q is not the name of an image", name)
		}
		if _, ok := named.(reference.Digested); ok {
			pinned = append(pinned, named.String())
		} else {
			refs = append(refs, reference.TagNameOnly(named).String())
		}
		return nil
	}
	if b.Args["BUILDKIT_SYNTAX"] != "" {
		return nil, nil, doubt("its syntax is an argument")
	}
	if syntax, _, _, ok := parser.DetectSyntax(data); ok {
		named, err := reference.ParseNormalizedNamed(syntax)
		if err != nil || named.Name() != frontend {
			return nil, nil, doubt("its Dockerfile has a syntax of its own, %s", syntax)
		}
		if tagged, ok := reference.TagNameOnly(named).(reference.Tagged); !ok || !knownSyntax.MatchString(tagged.Tag()) {
			return nil, nil, doubt("its Dockerfile has a syntax, %s, that may read it another way", syntax)
		}
		if err := add(syntax); err != nil {
			return nil, nil, err
		}
	}
	ast, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, nil, doubt("its Dockerfile cannot be parsed")
	}
	stages, meta, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		return nil, nil, doubt("its Dockerfile cannot be parsed")
	}
	for name, where := range b.AdditionalContexts {
		if image, ok := strings.CutPrefix(where, "docker-image://"); ok {
			err = add(image)
		} else if plan.Remote(where) {
			err = doubt("its context %s is fetched by the build", name) // whose URL may hold a token
		}
		if err != nil {
			return nil, nil, err
		}
	}
	args := metaArgs(meta, b, shell.NewLex(ast.EscapeToken))
	known := map[string]bool{"scratch": true}
	for name := range b.AdditionalContexts {
		known[strings.ToLower(name)] = true
	}
	from := func(name string) error {
		if known[strings.ToLower(name)] || name == "" {
			return nil
		}
		expanded, unset, err := shell.NewLex(ast.EscapeToken).ProcessWord(name, args)
		if err != nil || len(unset) > 0 || strings.Contains(expanded, "$") {
			return doubt("what %s stands for is known to the build alone", name)
		}
		if known[strings.ToLower(expanded)] {
			return nil
		}
		return add(expanded)
	}
	for i, s := range stages {
		if err := from(s.BaseName); err != nil {
			return nil, nil, err
		}
		known[strconv.Itoa(i)] = true
		if s.Name != "" {
			known[strings.ToLower(s.Name)] = true
		}
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			if err := takes(c, from); err != nil {
				return nil, nil, err
			}
		}
	}
	return refs, pinned, nil
}

// takes finds the images that an instruction names, and what it fetches.
func takes(c instructions.Command, from func(string) error) error {
	switch c := c.(type) {
	case *instructions.CopyCommand:
		return from(c.From)
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			if err := from(m.From); err != nil {
				return err
			}
		}
	case *instructions.AddCommand:
		for _, p := range c.SourcePaths {
			if strings.ContainsAny(p, ":$") { // a URL, a repository as git@host:path, or whatever a variable holds
				return doubt("ADD %s may be fetched by the build", p)
			}
		}
	}
	return nil
}

// metaArgs are the variables that FROM may use.
func metaArgs(meta []instructions.ArgCommand, b plan.Build, lex *shell.Lex) shell.EnvGetter {
	var env []string
	for _, m := range meta {
		for _, kv := range m.Args {
			value, ok := b.Args[kv.Key]
			if !ok && kv.Value != nil {
				v, unset, err := lex.ProcessWord(*kv.Value, shell.EnvsFromSlice(env))
				if value, ok = v, err == nil && len(unset) == 0; !ok {
					continue
				}
			}
			if ok {
				env = append(env, kv.Key+"="+value)
			}
		}
	}
	return shell.EnvsFromSlice(env)
}
