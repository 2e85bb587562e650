package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

type planCmd struct {
	source
	engineFlag
	JSON   bool   `help:"Print the plan as JSON."`
	Output string `placeholder:"FILE" help:"Name of the definitions file (default: imagedefinitions.json)."`
}

func (c *planCmd) Run(a *app) error {
	p, err := c.load(a, c.Output, c.engineFlag)
	if err != nil {
		return err
	}
	for _, n := range p.Notes {
		_ = a.lines(a.stderr, "ecsbuild: "+n)
	}
	for _, w := range p.Warnings {
		_ = a.lines(a.stderr, "ecsbuild: warning: "+w)
	}
	if c.JSON {
		var b bytes.Buffer
		err := format.JSON(&b, p, "  ")
		if err == nil {
			_, err = io.WriteString(a.stdout, a.secrets.String(b.String()))
		}
		return err
	}
	return a.lines(a.stdout, describe(p))
}

// each writes a line for every key of a map, in order.
func each[V any](line func(key, value string), what string, values map[string]V) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		line(what+" "+name, fmt.Sprint(values[name]))
	}
}

// flag writes a line for what is on.
func flag(line func(key, value string), what string, on bool) {
	if on {
		line(what, "yes")
	}
}

func describeNodes(nodes []plan.Node) string {
	var out []string
	for _, n := range nodes {
		text := n.Address
		if n.Jobs > 0 {
			text += fmt.Sprintf(" (%d at once)", n.Jobs)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// describe writes a plan for people.
func describe(p *plan.Plan) string {
	var b strings.Builder
	fmt.Fprintln(&b, "registry")
	line := lineOf(&b)
	flag(line, "public", p.Public)
	line("account", cmp.Or(p.Account, "the caller's own, as ECR names it"))
	line("region", cmp.Or(p.Region, "as the AWS configuration has it"))
	if p.Builder == plan.BuilderBuildKit {
		line("builder", describeNodes(p.Nodes))
	} else if p.Builder != plan.BuilderAuto {
		line("builder", string(p.Builder))
	}
	describeBuild(&b, p, func(path string) string {
		if r, err := filepath.Rel(p.Directory, path); err == nil && !strings.HasPrefix(r, "..") {
			return r
		}
		return path
	})
	for _, l := range p.Logins {
		fmt.Fprintf(&b, "account for %s\n", l.Host)
		line("username", l.Username.String())
		line("password", l.Password.String())
	}
	return b.String()
}

// lineOf writes lines of what has a value.
func lineOf(b *strings.Builder) func(key, value string) {
	return func(key, value string) {
		if value != "" {
			fmt.Fprintf(b, "  %-12s %s\n", key, value)
		}
	}
}

// describeBuild writes what is built and which files are left, with paths as rel has them.
func describeBuild(b *strings.Builder, p *plan.Plan, rel func(path string) string) {
	line := lineOf(b)
	for _, img := range p.Images {
		fmt.Fprintf(b, "image %s\n", strings.Join(img.Names(), ", "))
		line("repository", img.Repository)
		line("tags", strings.Join(img.Tags, ", "))
		line("context", rel(img.Build.Context))
		line("dockerfile", rel(img.Build.Dockerfile))
		line("target", img.Build.Target)
		line("platforms", strings.Join(img.Build.Platforms, ", "))
		each(line, "arg", img.Build.Args)
		each(line, "label", img.Build.Labels)
		contexts := map[string]string{}
		for name, where := range img.Build.AdditionalContexts {
			contexts[name] = where
			if !plan.Remote(where) {
				contexts[name] = rel(where)
			}
		}
		for name, base := range img.Build.ImageContexts {
			contexts[name] = "the image of " + base
		}
		each(line, "context", contexts)
		each(line, "secret", img.Build.Secrets)
		line("ssh", strings.Join(img.Build.SSH, ", "))
		line("hosts", strings.Join(img.Build.ExtraHosts, ", "))
		line("network", img.Build.Network)
		if img.Build.ShmSize > 0 {
			line("shm size", format.Bytes(img.Build.ShmSize))
		}
		flag(line, "no cache", img.Build.NoCache)
		flag(line, "pull", img.Build.Pull)
		line("cache", string(img.Build.Cache))
		flag(line, "cache mounts", img.Build.CacheMounts)
		line("cache from", strings.Join(img.Build.CacheFrom, ", "))
		line("cache to", strings.Join(img.Build.CacheTo, ", "))
		line("compression", string(img.Build.Compression))
		if level := img.Build.CompressionLevel; level != nil {
			line("level", strconv.Itoa(*level))
		}
		flag(line, "reproducible", img.Build.Reproducible)
		flag(line, "reuse", img.Reuse)
		if img.MaxAge > 0 {
			line("max age", (time.Duration(img.MaxAge) * time.Second).String())
		}
		if img.Create != nil {
			line("create", "if missing")
		}
		line("on immutable", string(img.OnImmutable))
	}
	for _, g := range p.Gates {
		fmt.Fprintln(b, "gate")
		line("run", strings.ReplaceAll(strings.TrimSpace(g.Command), "\n", "\n"+strings.Repeat(" ", 15)))
		line("timeout", (time.Duration(g.Timeout) * time.Second).String())
	}
	for _, d := range p.Definitions {
		fmt.Fprintf(b, "definitions %s\n", rel(d.File))
		var entries []string
		for _, e := range d.Entries {
			switch {
			case e.URI != "":
				entries = append(entries, e.Container+" ("+e.URI+")")
			case e.Image != e.Container:
				entries = append(entries, e.Container+" (image "+e.Image+")")
			default:
				entries = append(entries, e.Container)
			}
		}
		line("containers", strings.Join(entries, ", "))
		if d.Format != plan.ImageDefinitions {
			line("format", string(d.Format))
		}
		if d.Service != nil {
			line("service", d.Service.Cluster+"/"+d.Service.Name)
		}
	}
}
