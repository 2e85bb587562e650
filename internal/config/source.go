package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// parseSource reads ssm:NAME, secretsmanager:ID[#KEY], env:NAME, or, where
// literal is allowed, the value itself.
func parseSource(text string, literal bool, lookup func(string) (string, bool)) (plan.Source, *fault.Error) {
	prefix, name, ok := strings.Cut(text, ":")
	kind := plan.SourceKind(prefix)
	if ok && name == "" && (kind == plan.FromSSM || kind == plan.FromSecretsManager || kind == plan.FromEnv) {
		return plan.Source{}, &fault.Error{What: prefix + ": names nothing after the colon"}
	}
	if ok {
		switch kind {
		case plan.FromSSM:
			return plan.Source{Kind: kind, Name: name}, nil
		case plan.FromSecretsManager:
			id, key, _ := strings.Cut(name, "#")
			return plan.Source{Kind: kind, Name: id, Key: key}, nil
		case plan.FromEnv:
			v, ok := lookup(name)
			if !ok {
				return plan.Source{}, &fault.Error{What: fmt.Sprintf("the variable %s is not set", name),
					Fix: "export it, or name another place with ssm:NAME or secretsmanager:ID"}
			}
			return plan.Source{Kind: kind, Name: name, Value: plan.NewSecret(v)}, nil
		}
	}
	if literal && text != "" {
		return plan.Source{Kind: plan.FromValue, Value: plan.NewSecret(text)}, nil
	}
	// The text itself may be a password: it is not repeated.
	return plan.Source{}, &fault.Error{What: "a secret must not be in the file itself",
		Fix: "write ssm:NAME, secretsmanager:ID[#KEY] or env:NAME"}
}

func (d *document) secrets(img *imageConfig) field {
	return field{func(n ast.Node) error {
		img.Build.Secrets = map[string]plan.Source{}
		return d.each("secrets", n, func(key string, _, v ast.Node) error {
			var s plan.Source
			err := d.source("secrets."+key, &s, false).read(v)
			var e *fault.Error
			if d.unset == unsetDeferred && errors.As(err, &e) && !d.isSet(v) {
				img.unset = append(img.unset, e)
				err = nil
			}
			img.Build.Secrets[key] = s
			return err
		})
	}, isMap(isSecret)}
}

// isSet says that a secret does not name a variable without a value.
func (d *document) isSet(n ast.Node) bool {
	text, _ := d.scalar("", n)
	name, ok := strings.CutPrefix(text, "env:")
	_, set := d.lookup(name)
	return !ok || name == "" || set
}
