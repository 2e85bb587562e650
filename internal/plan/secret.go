package plan

import (
	"fmt"
	"log/slog"
	"strings"
)

// A Secret is a value that prints as [redacted] from every verb and encoder.
// Reveal is the only way to it.
type Secret struct{ value *string } // a pointer, so that %v of what holds one shows an address at most

// NewSecret wraps a value.
func NewSecret(v string) Secret { return Secret{&v} }

// Reveal gives the value to the one place that must send it.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

const redacted = "[redacted]"

func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }

// A Source says where a value comes from.
type Source struct {
	Kind  string // "ssm", "secretsmanager", "env" or "value"
	Name  string // parameter, secret ID or variable
	Key   string // the key inside a JSON secret, "" for the whole
	Value Secret // what env and value resolved to
}

// The kinds of Source.
const (
	FromSSM            = "ssm"
	FromSecretsManager = "secretsmanager"
	FromEnv            = "env"
	FromValue          = "value"
)

// String names the place, never the value.
func (s Source) String() string {
	switch {
	case s.Kind == FromValue:
		return redacted
	case s.Key != "":
		return s.Kind + ":" + s.Name + "#" + s.Key
	}
	return s.Kind + ":" + s.Name
}

// MarshalText keeps the value out of plan --json.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// parseSource reads ssm:NAME, secretsmanager:ID[#KEY], env:NAME, or, where
// literal is allowed, the value itself.
func parseSource(text string, literal bool, lookup func(string) (string, bool)) (Source, *Error) {
	kind, name, ok := strings.Cut(text, ":")
	if ok && name == "" && (kind == FromSSM || kind == FromSecretsManager || kind == FromEnv) {
		return Source{}, &Error{What: kind + ": names nothing after the colon"}
	}
	if ok {
		switch kind {
		case FromSSM:
			return Source{Kind: kind, Name: name}, nil
		case FromSecretsManager:
			id, key, _ := strings.Cut(name, "#")
			return Source{Kind: kind, Name: id, Key: key}, nil
		case FromEnv:
			v, ok := lookup(name)
			if !ok {
				return Source{}, &Error{What: fmt.Sprintf("the variable %s is not set", name), Fix: "export it, or name another place with ssm:NAME or secretsmanager:ID"}
			}
			return Source{Kind: kind, Name: name, Value: NewSecret(v)}, nil
		}
	}
	if literal && text != "" {
		return Source{Kind: FromValue, Value: NewSecret(text)}, nil
	}
	// The text itself may be a password: it is not repeated.
	return Source{}, &Error{What: "a secret never stands in the file itself", Fix: "write ssm:NAME, secretsmanager:ID[#KEY] or env:NAME"}
}

// An Account opens a registry.
type Account struct {
	Username string // "" where Password is an identity token, as some registries give one to docker login
	Password Secret
	From     string // what it was read from, for messages: "ssm:DOCKER_HUB_ID", "docker login"
}

// String tells whose it is, never the password.
func (a Account) String() string {
	who := "an identity token"
	if a.Username != "" {
		who = "the account " + a.Username
	}
	if a.From == "" {
		return who
	}
	return who + " (" + a.From + ")"
}
