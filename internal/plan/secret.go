package plan

import (
	"fmt"
	"log/slog"
)

// A Secret is a value that prints as [redacted] from every verb and encoder.
// Reveal is the only way to it.
type Secret struct{ value *string } // a pointer, so that %v of what holds one shows an address at most

// NewSecret wraps a value.
func NewSecret(v string) Secret { return Secret{&v} }

// Reveal returns the value to the one place that must send it.
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
	Kind  SourceKind
	Name  string // parameter, secret ID or variable
	Key   string // the key inside a JSON secret, "" for the whole
	Value Secret // what env and value resolved to
}

// SourceKind is where the value of a Source lies.
type SourceKind string

const (
	FromSSM            SourceKind = "ssm"
	FromSecretsManager SourceKind = "secretsmanager"
	FromEnv            SourceKind = "env"   // an environment variable
	FromValue          SourceKind = "value" // in ecsbuild.yml itself
)

// String names the place, never the value.
func (s Source) String() string {
	switch {
	case s.Kind == FromValue:
		return redacted
	case s.Key != "":
		return string(s.Kind) + ":" + s.Name + "#" + s.Key
	}
	return string(s.Kind) + ":" + s.Name
}

// MarshalText keeps the value out of plan --json.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
