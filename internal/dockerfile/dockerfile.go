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

// A Dockerfile is what can be known of one before it is built.
type File struct {
	Stages []string // their names, "" for one without
	Bases  []string // base images, variables not resolved left out
	Args   []string // build arguments that are declared
	Reads  []string // what COPY and ADD take from the context, sorted

	parents map[string]string // what each stage begins with, by name and by number
	custom  bool              // its syntax is not ours to judge
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

// ReadDockerfile parses the Dockerfile of a local build as BuildKit would. Its
// error is a *ParseError that shows the line. One with a syntax directive has
// a frontend of its own, and is empty here where our parser does not know it.
func Read(img plan.Image) (*File, error) {
	data, err := os.ReadFile(img.Build.Dockerfile)
	if err != nil {
		return nil, &fault.Error{What: "cannot read " + img.Build.Dockerfile, Why: err.Error()}
	}
	var stages []instructions.Stage
	var meta []instructions.ArgCommand
	ast, err := parser.Parse(bytes.NewReader(data))
	if err == nil {
		stages, meta, err = instructions.Parse(ast.AST, nil)
	}
	if err != nil {
		if _, _, _, custom := parser.DetectSyntax(data); custom {
			return &File{custom: true}, nil
		}
		e := &ParseError{Image: img.Name(), File: img.Build.Dockerfile, Err: err}
		var located *parser.LocationError
		if errors.As(err, &located) && len(located.Locations) > 0 && len(located.Locations[0]) > 0 {
			r := located.Locations[0]
			e.Lines = Excerpt(string(data), r[0].Start.Line, r[len(r)-1].End.Line)
		}
		return nil, e
	}
	d := &File{parents: map[string]string{}}
	declare := func(args []instructions.KeyValuePairOptional) {
		for _, kv := range args {
			d.Args = append(d.Args, kv.Key)
		}
	}
	for _, m := range meta {
		declare(m.Args)
	}
	for _, s := range stages {
		if base := s.BaseName; base != "scratch" && !strings.Contains(base, "$") && !slices.Contains(d.Stages, strings.ToLower(base)) && !slices.Contains(d.Bases, base) {
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

// Base is the base image whose layers a target ends up with, as BuildKit spells
// it: docker.io/library/php:8. It is "" for scratch and for what a variable names.
func (d *File) Base(target string) string {
	stage := strings.ToLower(target)
	if stage == "" {
		stage = strconv.Itoa(len(d.Stages) - 1)
	}
	base := ""
	for range d.Stages {
		parent, ok := d.parents[stage]
		if !ok {
			break
		}
		base, stage = parent, strings.ToLower(parent)
	}
	named, err := reference.ParseNormalizedNamed(base)
	if err != nil || base == "scratch" || strings.Contains(base, "$") {
		return ""
	}
	return reference.TagNameOnly(named).String()
}

// predefined are the arguments that every Dockerfile has.
// https://docs.docker.com/reference/dockerfile/#predefined-args
var predefined = []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "SOURCE_DATE_EPOCH",
	"TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", "BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"}

// Check holds an image's target and arguments against its Dockerfile: what is
// wrong is an error, what is only idle a warning.
func (d *File) Check(img plan.Image) (warnings []string, err error) {
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
			e := &fault.Error{What: fmt.Sprintf("%s: %s has no stage %q", img.Name(), img.Build.Dockerfile, t), Fix: "name a stage with FROM … AS " + t}
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
	slices.Sort(warnings)
	return warnings, nil
}
