// Package dockerfile says what can be known of a Dockerfile before it is built.
package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A File is a Dockerfile: what can be known of it before it is built. A nil *File is
// one that nobody has read, as that of a context which BuildKit fetches.
type File struct {
	Path    string // absolute
	Data    []byte
	Regular bool // not a link, which BuildKit follows within its folder alone

	Stages []string // their names, "" for one without
	Bases  []string // base images, variables not resolved left out
	Args   []string // build arguments that are declared
	Reads  []string // what COPY and ADD take from the context, sorted

	parents map[string]string // what each stage begins with, by name and by number
	custom  bool              // its syntax is not ours to judge
	stages  []instructions.Stage
	meta    []instructions.ArgCommand
	escape  rune
}

// Files are the Dockerfiles of a run, by the name of the image.
type Files map[string]*File

// ReadAll reads and parses the Dockerfiles of images, each once. Those that cannot be
// read or parsed are missing, and have a *fault.Error or *ParseError, by the index of the
// image.
func ReadAll(images []plan.Image) (Files, []error) {
	files, errs := Files{}, make([]error, len(images))
	for i, img := range images {
		if plan.Remote(img.Build.Context) {
			continue
		}
		f, err := Read(img)
		if err != nil {
			errs[i] = err
			continue
		}
		files[img.Name()] = f
	}
	return files, errs
}

// A ParseError is a Dockerfile that does not parse.
type ParseError struct {
	Image string
	File  string // absolute
	Lines []Line // around the mistake
	Err   error
}

func (e *ParseError) Error() string { return e.Image + ": " + e.Err.Error() }
func (e *ParseError) Unwrap() error { return e.Err }

// Read reads the Dockerfile of a local build and parses it as BuildKit would. Its
// error is a *ParseError that shows the line. One with a syntax directive has
// a frontend of its own, and is empty here where our parser does not know it.
func Read(img plan.Image) (*File, error) {
	path := img.Build.Dockerfile
	st, err := os.Lstat(path)
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, &fault.Error{What: "cannot read " + path, Why: err.Error()}
	}
	f, err := Parse(data)
	if err != nil {
		e := &ParseError{Image: img.Name(), File: path, Err: err}
		var located *parser.LocationError
		if errors.As(err, &located) && len(located.Locations) > 0 && len(located.Locations[0]) > 0 {
			r := located.Locations[0]
			e.Lines = Excerpt(string(data), r[0].Start.Line, r[len(r)-1].End.Line)
		}
		return nil, e
	}
	f.Path, f.Regular = path, st.Mode().IsRegular()
	return f, nil
}

// Parse parses the text of a Dockerfile.
func Parse(data []byte) (*File, error) {
	d := &File{Data: data, parents: map[string]string{}}
	ast, err := parser.Parse(bytes.NewReader(data))
	if err == nil {
		d.escape = ast.EscapeToken
		d.stages, d.meta, err = instructions.Parse(ast.AST, nil)
	}
	if err != nil {
		if _, _, _, custom := parser.DetectSyntax(data); custom {
			return &File{Data: data, custom: true}, nil
		}
		return nil, err
	}
	declare := func(args []instructions.KeyValuePairOptional) {
		for _, kv := range args {
			d.Args = append(d.Args, kv.Key)
		}
	}
	for _, m := range d.meta {
		declare(m.Args)
	}
	for _, s := range d.stages {
		if base := s.BaseName; base != "scratch" && !strings.Contains(base, "$") &&
			!slices.Contains(d.Stages, strings.ToLower(base)) && !slices.Contains(d.Bases, base) {
			d.Bases = append(d.Bases, base)
		}
		d.parents[strconv.Itoa(len(d.Stages))], d.parents[strings.ToLower(s.Name)] = s.BaseName, s.BaseName
		d.Stages = append(d.Stages, strings.ToLower(s.Name))
		for _, c := range s.Commands {
			switch c := c.(type) {
			case *instructions.ArgCommand:
				declare(c.Args)
			case *instructions.CopyCommand:
				if c.From == "" {
					d.Reads = append(d.Reads, c.SourcePaths...)
				}
			case *instructions.AddCommand:
				d.Reads = append(d.Reads, c.SourcePaths...)
			}
		}
	}
	slices.Sort(d.Reads)
	d.Reads = slices.Compact(d.Reads)
	return d, nil
}

// Root is what the first of the stages begins with that a target is built on, as the
// Dockerfile names it.
func (d *File) Root(target string) string {
	if d == nil {
		return ""
	}
	stage := strings.ToLower(target)
	if stage == "" {
		stage = strconv.Itoa(len(d.Stages) - 1)
	}
	root := ""
	for range d.Stages {
		parent, ok := d.parents[stage]
		if !ok {
			break
		}
		root, stage = parent, strings.ToLower(parent)
	}
	return root
}

// FullName is the name of an image as BuildKit spells it: docker.io/library/php:8. It is ""
// for scratch and for what a variable names.
func FullName(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil || name == "scratch" || strings.Contains(name, "$") {
		return ""
	}
	return reference.TagNameOnly(named).String()
}

// predefined are the arguments that every Dockerfile has.
// https://docs.docker.com/reference/dockerfile/#predefined-args
var predefined = []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy",
	"NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "SOURCE_DATE_EPOCH",
	"TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", "BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"}

// Check compares an image's target and arguments with its Dockerfile: what is
// wrong is an error, what is only idle a warning.
func (d *File) Check(img plan.Image) (warnings []string, err error) {
	if d == nil {
		return nil, nil
	}
	if d.custom {
		return nil, nil
	}
	if t := img.Build.Target; t != "" && !slices.Contains(d.Stages, strings.ToLower(t)) {
		if n, nerr := strconv.Atoi(t); nerr != nil || n < 0 || n >= len(d.Stages) {
			var named []string
			for _, s := range d.Stages {
				if s != "" {
					named = append(named, s)
				}
			}
			e := &fault.Error{What: fmt.Sprintf("%s: %s has no stage %q", img.Name(), img.Build.Dockerfile, t),
				Fix: "name a stage with FROM … AS " + t}
			if len(named) > 0 {
				e.Fix = "its stages are " + strings.Join(named, ", ")
			}
			if near := fault.Closest(t, named); near != "" {
				e.Fix = "did you mean " + near + "? " + e.Fix
			}
			return nil, e
		}
	}
	for arg := range img.Build.Args {
		if !slices.Contains(d.Args, arg) && !slices.Contains(predefined, arg) && !strings.HasPrefix(arg, "BUILDKIT_") {
			warnings = append(warnings, fmt.Sprintf("the Dockerfile declares no ARG %s, so it has no effect", arg))
		}
	}
	for context, base := range img.Build.ImageContexts {
		if !d.names(context) {
			warnings = append(warnings, fmt.Sprintf("the Dockerfile takes nothing from the context %s, the image of %s", context,
				base))
		}
	}
	slices.Sort(warnings)
	return warnings, nil
}

// names says whether a Dockerfile may take something from a context: one of its names may be
// a variable.
func (d *File) names(context string) (found bool) {
	look := func(name string) {
		found = found || strings.Contains(name, "$") || plan.ContextName(name) == context
	}
	for _, s := range d.stages {
		look(s.BaseName)
		for _, c := range s.Commands {
			_ = takes(c, look)
		}
	}
	return found
}
