package config

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// builder is the flag's, the file's, or the environment's.
func (b *resolver) builder(flag plan.Builder) error {
	fromEnvironment := plan.Builder(b.env["ECSBUILD_BUILDER"])
	if e := checkBuilder(string(flag)); flag != "" && e != nil {
		e.Place = "--builder"
		return e
	}
	if e := checkBuilder(string(fromEnvironment)); fromEnvironment != "" && e != nil {
		e.Place = "ECSBUILD_BUILDER"
		return e
	}
	b.plan.Builder = cmp.Or(flag, b.config.builder, fromEnvironment, plan.BuilderAuto)
	address := b.plan.Builder.Address()
	if address == "" && (b.plan.Builder == plan.BuilderAuto || b.plan.Builder == plan.BuilderDocker) {
		address = b.env["BUILDKIT_HOST"]
	}
	if u, err := url.Parse(address); err == nil && u.Scheme == "tcp" && !plan.IsLoopback(strings.ToLower(u.Hostname())) &&
		b.env["BUILDKIT_CERT_PATH"] == "" {
		b.plan.Warnings = append(b.plan.Warnings, fmt.Sprintf("the builder %s is asked without TLS: whoever is on the way "+
			"sees sources and secrets, and can change images; BUILDKIT_CERT_PATH names the folder of certificates", u.Redacted()))
	}
	return nil
}

// checkBuilder takes a word, an address or buildx:NAME.
func checkBuilder(text string) *fault.Error {
	if slices.Contains(plan.Builders, plan.Builder(text)) {
		return nil
	}
	e := &fault.Error{What: fmt.Sprintf("%q is not understood", userInfo.ReplaceAllString(text, "${1}[redacted]@")),
		Fix: "write auto, docker, private, the address of a buildkitd, as tcp://HOST:PORT, or buildx:NAME; a Docker engine is named by DOCKER_HOST"}
	if name, ok := strings.CutPrefix(text, plan.BuildxPrefix); ok && name != "" && filepath.Base(name) == name {
		return nil
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return e
	}
	if !slices.Contains(plan.BuilderSchemes, scheme) {
		e.Fix = "an address begins with one of " + strings.Join(plan.BuilderSchemes, "://, ") + "://"
		return e
	}
	u, err := url.Parse(text)
	switch {
	case err != nil: // which would show a password
		e.Why = "it is no URL"
	case scheme == "unix" && !strings.HasPrefix(rest, "/"):
		e.Fix = "write unix:// and the whole path of a socket, as in unix:///run/buildkit/buildkitd.sock"
	case scheme == "tcp" && u.Port() == "":
		e.Fix = "write the port as well, as in tcp://buildkitd:1234"
	case scheme != "unix" && u.Host == "":
		e.Fix = "write a name behind " + scheme + "://"
	default:
		return nil
	}
	return e
}

// userInfo is what may be a password, also of an address that does not parse.
var userInfo = regexp.MustCompile(`(?s)^([a-z-]*:/*)?.*@`)

// builder reads a word or an address.
func (d *document) builder(into *plan.Builder) field {
	var text string
	f := d.checked("builder", &text, func(s string) *fault.Error {
		*into = plan.Builder(s)
		return checkBuilder(s)
	})
	var words []string
	for _, b := range plan.Builders {
		words = append(words, string(b))
	}
	address := "^((" + strings.Join(plan.BuilderSchemes, "|") + ")://|" + plan.BuildxPrefix + ")."
	f.is = isEither(schema{"enum": words}, isLike(address))
	return f
}
