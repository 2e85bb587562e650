package config

import (
	"fmt"
	"strings"

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
