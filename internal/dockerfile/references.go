package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
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

// References are the images that a local build takes something from, by their full
// names, as far as its Dockerfile says: FROM, COPY --from, RUN --mount, the syntax
// and the contexts that are images. None for a context that is fetched.
func References(img plan.Image) []string {
	if plan.Remote(img.Build.Context) {
		return nil
	}
	data, err := os.ReadFile(img.Build.Dockerfile)
	if err != nil {
		return nil
	}
	refs, pinned, _ := External(data, img.Build)
	return append(refs, pinned...)
}

// external lists the images that a Dockerfile takes something from, by their
// full names: refs, whose digests are to be found, and those that have one. With
// an error, which is the first reason why more may be taken than can be known from
// here, it gives all that can.
func External(data []byte, b plan.Build) (refs, pinned []string, first error) {
	defer func() {
		for _, names := range []*[]string{&refs, &pinned} {
			slices.Sort(*names)
			*names = slices.Compact(*names)
		}
	}()
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	add := func(name string) {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			note(fmt.Errorf("%q is not the name of an image", name))
			return
		}
		if _, ok := named.(reference.Digested); ok {
			pinned = append(pinned, named.String())
		} else {
			refs = append(refs, reference.TagNameOnly(named).String())
		}
	}
	if syntax := b.Args["BUILDKIT_SYNTAX"]; syntax != "" {
		note(errors.New("its syntax is an argument"))
		add(syntax)
	} else if syntax, _, _, ok := parser.DetectSyntax(data); ok {
		add(syntax)
		note(unknownSyntax(syntax))
	}
	ast, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		note(errors.New("its Dockerfile cannot be parsed"))
		return refs, pinned, first
	}
	stages, meta, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		note(errors.New("its Dockerfile cannot be parsed"))
		return refs, pinned, first
	}
	for name, where := range b.AdditionalContexts {
		if image, ok := strings.CutPrefix(where, "docker-image://"); ok {
			add(image)
		} else if plan.Remote(where) {
			note(fmt.Errorf("its context %s is fetched by the build", name)) // whose URL may hold a token
		}
	}
	args := metaArgs(meta, b, shell.NewLex(ast.EscapeToken))
	known := map[string]bool{"scratch": true}
	for name := range b.AdditionalContexts {
		known[strings.ToLower(name)] = true
	}
	from := func(name string) {
		if known[strings.ToLower(name)] || name == "" {
			return
		}
		expanded, unset, err := shell.NewLex(ast.EscapeToken).ProcessWord(name, args)
		switch {
		case err != nil || len(unset) > 0 || strings.Contains(expanded, "$"):
			note(fmt.Errorf("what %s stands for is known to the build alone", name))
			if repository, ok := repositoryOf(name); ok {
				add(repository)
			}
		case !known[strings.ToLower(expanded)]:
			add(expanded)
		}
	}
	for i, s := range stages {
		from(s.BaseName)
		known[strconv.Itoa(i)] = true
		if s.Name != "" {
			known[strings.ToLower(s.Name)] = true
		}
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			note(takes(c, from))
		}
	}
	return refs, pinned, first
}

// repositoryOf gives the repository of an image whose tag alone holds a variable.
func repositoryOf(name string) (string, bool) {
	i := strings.IndexByte(name, '$')
	if i < 0 {
		return "", false
	}
	slash, colon := strings.LastIndexByte(name[:i], '/'), strings.LastIndexAny(name[:i], ":@")
	if colon <= slash {
		return "", false
	}
	return name[:colon], true
}

// unknownSyntax is why a syntax may read a Dockerfile in another way than we do,
// nil for one that does not.
func unknownSyntax(syntax string) error {
	named, err := reference.ParseNormalizedNamed(syntax)
	if err != nil || named.Name() != frontend {
		return fmt.Errorf("its Dockerfile has a syntax of its own, %s", syntax)
	}
	if tagged, ok := reference.TagNameOnly(named).(reference.Tagged); !ok || !knownSyntax.MatchString(tagged.Tag()) {
		return fmt.Errorf("its Dockerfile has a syntax, %s, that may read it another way", syntax)
	}
	return nil
}

// takes finds the images that an instruction names; its error is what it fetches
// beside them.
func takes(c instructions.Command, from func(string)) error {
	switch c := c.(type) {
	case *instructions.CopyCommand:
		from(c.From)
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			from(m.From)
		}
	case *instructions.AddCommand:
		for _, p := range c.SourcePaths {
			if strings.ContainsAny(p, ":$") { // a URL, a repository as git@host:path, or whatever a variable holds
				return fmt.Errorf("ADD %s may be fetched by the build", p)
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
