package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// builderConfig is what one place says of what builds: a word, or nodes.
type builderConfig struct {
	word  plan.Builder
	nodes []plan.Node
}

func (b builderConfig) isSet() bool { return b.word != "" || len(b.nodes) > 0 }

// builder is the flag's, the file's, or the environment's.
func (b *resolver) builder(flag string) error {
	chosen, e := parseBuilder(flag)
	if e != nil {
		e.Place = "--builder"
		return e
	}
	fromEnvironment, e := parseBuilder(b.env["ECSBUILD_BUILDER"])
	if e != nil {
		e.Place = "ECSBUILD_BUILDER"
		return e
	}
	for _, next := range []builderConfig{b.config.builder, fromEnvironment, {word: plan.BuilderAuto}} {
		if !chosen.isSet() {
			chosen = next
		}
	}
	b.plan.Builder, b.plan.Nodes = chosen.word, chosen.nodes
	var addresses []string
	for _, n := range chosen.nodes {
		addresses = append(addresses, n.Address)
	}
	switch chosen.word {
	case "":
		b.plan.Builder = plan.BuilderBuildKit
	case plan.BuilderAuto, plan.BuilderDocker:
		addresses = []string{b.env["BUILDKIT_HOST"]}
	}
	b.warnOfPlainNodes(addresses)
	return nil
}

// warnOfPlainNodes warns of buildkitds on other hosts that are asked without TLS.
func (b *resolver) warnOfPlainNodes(addresses []string) {
	for _, address := range addresses {
		if u, err := url.Parse(address); err == nil && u.Scheme == "tcp" &&
			!plan.IsLoopback(strings.ToLower(u.Hostname())) && b.env["BUILDKIT_CERT_PATH"] == "" {
			b.plan.Warnings = append(b.plan.Warnings, fmt.Sprintf("the builder %s is asked without TLS: whoever is on "+
				"the way sees sources and secrets, and can change images; BUILDKIT_CERT_PATH names the folder of certificates",
				u.Redacted()))
		}
	}
}

// parseBuilder reads a word, or the addresses of nodes, with commas or spaces between them; a
// flag or a variable has them so. Nothing is set where there is no text.
func parseBuilder(text string) (b builderConfig, _ *fault.Error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	for _, f := range fields {
		if word := plan.Builder(f); slices.Contains(plan.BuilderWords, word) && len(fields) == 1 {
			return builderConfig{word: word}, nil
		}
		if e := checkNode(f); e != nil {
			return b, e
		}
		b.nodes = append(b.nodes, plan.Node{Address: f})
	}
	return b, checkNodes(b.nodes)
}

// checkNodes refuses one that is there twice.
func checkNodes(nodes []plan.Node) *fault.Error {
	seen := map[string]bool{}
	for _, n := range nodes {
		if seen[n.Address] {
			return &fault.Error{What: "duplicate builder " + withoutUserInfo(n.Address), Fix: "keep one of them"}
		}
		seen[n.Address] = true
	}
	return nil
}

// checkNode takes an address or buildx:NAME.
func checkNode(text string) *fault.Error {
	e := &fault.Error{What: fmt.Sprintf("%q is not understood", withoutUserInfo(text)),
		Fix: "write auto, docker, private, the address of a buildkitd, as tcp://HOST:PORT, or buildx:NAME; a Docker engine is named by DOCKER_HOST"}
	if slices.Contains(plan.BuilderWords, plan.Builder(text)) {
		e.What = fmt.Sprintf("%q cannot stand beside other builders", text)
		e.Fix = "write it alone, or list addresses of buildkitds"
		return e
	}
	if name, ok := strings.CutPrefix(text, plan.BuildxPrefix); ok && name != "" && filepath.Base(name) == name {
		return nil
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return e
	}
	if !slices.Contains(plan.NodeSchemes, scheme) {
		e.Fix = "an address begins with one of " + strings.Join(plan.NodeSchemes, "://, ") + "://"
		return e
	}
	u, err := url.Parse(text)
	switch {
	case strings.ContainsAny(text, ", "):
		e.Fix = "write one address for each entry of the list"
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

func withoutUserInfo(address string) string {
	return userInfo.ReplaceAllString(address, "${1}[redacted]@")
}

// builder reads a word, or one node or several: each an address, or a mapping with a limit.
func (d *document) builder(into *builderConfig) field {
	item := func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		node := plan.Node{}
		if kind(r) == "a mapping" {
			if err := d.mapping("a builder", d.nodeKeys(&node))(n); err != nil {
				return err
			}
			if node.Address == "" {
				return d.fail(n, "a builder without address", "add address, as in tcp://buildkitd:1234")
			}
		} else if err := d.nodeKeys(&node)["address"].read(n); err != nil {
			return err
		}
		into.nodes = append(into.nodes, node)
		return d.at(n, checkNodes(into.nodes))
	}
	var words []string
	for _, b := range plan.BuilderWords {
		words = append(words, string(b))
	}
	address := d.nodeKeys(&plan.Node{})["address"].is
	one := isEither(address, isObject(d.nodeKeys(&plan.Node{}), "address"))
	return field{func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		switch kind(r) {
		case "a list":
			return d.some("builder", item)(n)
		case "a mapping":
			return item(n)
		}
		var text string // a variable may hold several
		return d.checked("builder", &text, func(s string) (e *fault.Error) {
			*into, e = parseBuilder(s)
			return e
		}).read(n)
	}, isEither(schema{"enum": words}, one, isList(one))}
}

var jobsPattern = regexp.MustCompile(`^[1-9][0-9]{0,3}$`)

func (d *document) nodeKeys(node *plan.Node) map[string]field {
	address := "^((" + strings.Join(plan.NodeSchemes, "|") + ")://|" + plan.BuildxPrefix + ")."
	return map[string]field{
		"address": d.checked("address", &node.Address, checkNode).as(isLike(address)),
		"jobs": {func(n ast.Node) error {
			s, err := d.scalar("jobs", n)
			if err != nil {
				return err
			}
			if !jobsPattern.MatchString(s) {
				return d.fail(n, fmt.Sprintf("jobs must be a number from 1 to 9999, not %q", s), "")
			}
			node.Jobs, err = strconv.Atoi(s)
			return err
		}, isEither(schema{"type": "integer", "minimum": 1, "maximum": 9999}, isLike(jobsPattern.String()))},
	}
}
