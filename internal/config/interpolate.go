package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/fault"
)

// interpolate replaces variables as the Compose specification has it: $VAR,
// ${VAR}, ${VAR:-default}, ${VAR-default}, ${VAR:?message}, ${VAR?message},
// ${VAR:+other}, ${VAR+other}, and $$ for a dollar. A colon counts an empty
// value as unset. It also names the variables that were unset without more.
// https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md
func interpolate(s string, lookup func(string) (string, bool)) (out string, unset []string, _ *fault.Error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			b.WriteString(s)
			return b.String(), unset, nil
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		switch {
		case strings.HasPrefix(s, "$"):
			b.WriteByte('$')
			s = s[1:]
		case strings.HasPrefix(s, "{"):
			end := closing(s)
			if end < 0 {
				return "", nil, &fault.Error{What: "a ${ without its }", Fix: "close it, or write $$ for a dollar sign"}
			}
			v, missing, err := expand(s[1:end], lookup)
			if err != nil {
				return "", nil, err
			}
			unset = append(unset, missing...)
			b.WriteString(v)
			s = s[end+1:]
		default:
			n := nameLength(s)
			if n == 0 {
				return "", nil, &fault.Error{What: "a $ without a variable's name", Fix: "write $$ for a dollar sign"}
			}
			v, ok := lookup(s[:n])
			if !ok {
				unset = append(unset, s[:n])
			}
			b.WriteString(v)
			s = s[n:]
		}
	}
}

// closing finds the } that belongs to the { at the start, past nested ones.
func closing(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$' && i+1 < len(s) && s[i+1] == '{':
			depth++
			i++
		case s[i] == '{' && i == 0:
			depth++
		case s[i] == '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func expand(expr string, lookup func(string) (string, bool)) (string, []string, *fault.Error) {
	n := nameLength(expr)
	if n == 0 {
		return "", nil, &fault.Error{What: fmt.Sprintf("${%s} has no variable's name", expr)}
	}
	name, rest := expr[:n], expr[n:]
	v, ok := lookup(name)
	if rest == "" {
		if !ok {
			return "", []string{name}, nil
		}
		return v, nil, nil
	}
	if rest[0] == ':' {
		ok = ok && v != ""
		rest = rest[1:]
	}
	if rest == "" || !slices.Contains([]byte("-?+"), rest[0]) {
		return "", nil, &fault.Error{What: fmt.Sprintf("${%s} is not understood", expr),
			Fix: "the forms are ${VAR}, ${VAR:-default}, ${VAR:?message} and ${VAR:+other}"}
	}
	op, word := rest[0], rest[1:]
	switch {
	case op == '-' && ok, op == '?' && ok:
		return v, nil, nil
	case op == '+' && !ok:
		return "", nil, nil
	case op == '?':
		if word == "" {
			word = "it is required here"
		}
		return "", nil, &fault.Error{What: fmt.Sprintf("the variable %s is not set", name), Why: word}
	}
	return interpolate(word, lookup)
}

func nameLength(s string) int {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9' {
			continue
		}
		return i
	}
	return len(s)
}
