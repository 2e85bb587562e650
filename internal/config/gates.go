package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// defaultGateTimeout is what a gate may take that says nothing of it.
const defaultGateTimeout = 15 * time.Minute

var isCommand = schema{"type": "string"}

// gates reads commands: each a text, or a mapping with a limit of time.
func (d *document) gates(into *[]plan.Gate) field {
	item := func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		g := plan.Gate{Timeout: int64(defaultGateTimeout / time.Second)}
		if kind(r) == "a mapping" {
			err = d.mapping("a gate", d.gateKeys(&g))(n)
		} else {
			err = d.gateKeys(&g)["run"].read(n)
		}
		if err == nil && strings.TrimSpace(g.Command) == "" {
			return d.fail(n, "a gate without a command", "write the command, as in docker run --rm \"$ECSBUILD_IMAGE_WEB\" true")
		}
		*into = append(*into, g)
		return err
	}
	one := isEither(isCommand, isObject(d.gateKeys(&plan.Gate{}), "run"))
	return field{func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		if kind(r) == "a list" {
			return d.list("gates", item)(n)
		}
		return item(n)
	}, isEither(isList(one), one)}
}

func (d *document) gateKeys(g *plan.Gate) map[string]field {
	return map[string]field{
		"run": {func(n ast.Node) error {
			r, err := d.resolve(n)
			if err != nil {
				return err
			}
			// The shell replaces its variables itself.
			switch t := r.(type) {
			case *ast.StringNode:
				g.Command = t.Value
			case *ast.LiteralNode:
				g.Command = t.Value.Value
			default:
				return d.wrong(r, "a gate", "text")
			}
			return nil
		}, isCommand},
		"timeout": {func(n ast.Node) error {
			s, err := d.scalar("timeout", n)
			if err != nil {
				return err
			}
			t, perr := time.ParseDuration(s)
			if perr != nil || t < time.Second || t > 24*time.Hour {
				return d.fail(n, fmt.Sprintf("timeout must be a time of up to a day, not %q", s), "write it as in 90s or 20m")
			}
			g.Timeout = int64((t + time.Second - 1) / time.Second)
			return nil
		}, isText},
	}
}

// gates takes those of the file. Each image has a variable of its own.
func (b *resolver) gates() error {
	b.plan.Gates = b.config.gates
	if len(b.plan.Gates) == 0 {
		return nil
	}
	names := map[string]string{}
	for _, img := range b.plan.Images {
		for _, n := range img.Names() {
			v := plan.Variable(n)
			if other, ok := names[v]; ok {
				return &fault.Error{What: fmt.Sprintf("gates: the images %s and %s would both be ECSBUILD_IMAGE_%s", other, n, v),
					Fix: "rename one of them"}
			}
			names[v] = n
		}
	}
	return nil
}
