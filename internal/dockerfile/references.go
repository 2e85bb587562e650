package dockerfile

import (
	"errors"
	"fmt"
	"maps"
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

// References are the images that a build takes something from, by their full names:
// FROM, COPY --from, RUN --mount, the syntax and the contexts that are images.
type References struct {
	Names   []string // whose digests are to be found, sorted
	Pinned  []string // that name a digest, sorted
	Unknown error    // the first reason why more may be taken than can be known from here, or nil
}

// All are the names of both kinds.
func (r References) All() []string { return slices.Concat(r.Names, r.Pinned) }

// References lists the images that a build of the Dockerfile takes something from.
// A nil *File has none.
func (d *File) References(b plan.Build) (out References) {
	if d == nil {
		return out
	}
	defer func() {
		for _, names := range []*[]string{&out.Names, &out.Pinned} {
			slices.Sort(*names)
			*names = slices.Compact(*names)
		}
	}()
	note := func(err error) {
		if out.Unknown == nil {
			out.Unknown = err
		}
	}
	add := func(name string) {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			note(fmt.Errorf("%q is not the name of an image", name))
			return
		}
		if _, ok := named.(reference.Digested); ok {
			out.Pinned = append(out.Pinned, named.String())
		} else {
			out.Names = append(out.Names, reference.TagNameOnly(named).String())
		}
	}
	if syntax := b.Args["BUILDKIT_SYNTAX"]; syntax != "" {
		note(errors.New("its syntax is an argument"))
		add(syntax)
	} else if syntax, _, _, ok := parser.DetectSyntax(d.Data); ok {
		add(syntax)
		note(unknownSyntax(syntax))
	}
	if d.custom {
		note(errors.New("its Dockerfile cannot be parsed"))
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(b.AdditionalContexts)) {
		where := b.AdditionalContexts[name]
		if image, ok := strings.CutPrefix(where, "docker-image://"); ok {
			add(image)
		} else if plan.Remote(where) {
			note(fmt.Errorf("its context %s is fetched by the build", name)) // whose URL may hold a token
		}
	}
	args := metaArgs(d.meta, b, shell.NewLex(d.escape))
	known := map[string]bool{"scratch": true}
	contexts := map[string]bool{}
	for _, name := range slices.AppendSeq(slices.Collect(maps.Keys(b.AdditionalContexts)), maps.Keys(b.ImageContexts)) {
		contexts[name] = true
	}
	from := func(name string) {
		if known[strings.ToLower(name)] || name == "" || contexts[plan.ContextName(name)] {
			return
		}
		expanded, unset, err := shell.NewLex(d.escape).ProcessWord(name, args)
		switch {
		case err != nil || len(unset) > 0 || strings.Contains(expanded, "$"):
			note(fmt.Errorf("what %s stands for is known only during the build", name))
			if repository, ok := repositoryOf(name); ok {
				add(repository)
			}
		case !known[strings.ToLower(expanded)] && !contexts[plan.ContextName(expanded)]:
			add(expanded)
		}
	}
	for i, s := range d.stages {
		from(s.BaseName)
		known[strconv.Itoa(i)] = true
		if s.Name != "" {
			known[strings.ToLower(s.Name)] = true
		}
	}
	for _, s := range d.stages {
		for _, c := range s.Commands {
			note(takes(c, from))
		}
	}
	return out
}

// repositoryOf returns the repository of an image whose tag alone holds a variable.
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
		return fmt.Errorf("its Dockerfile names a syntax, %s, that may read it differently", syntax)
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
