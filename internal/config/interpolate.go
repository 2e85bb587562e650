package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/fault"
)

// interpolate replaces variables as the Compose specification has it: $VAR,
// ${VAR}, ${VAR:-default}, ${VAR-default}, ${VAR:?message}, ${VAR?message},
// ${VAR:+other}, ${VAR+other}, and $$ for a dollar. A colon counts an empty
// value as unset. ${VAR:0:7} is a part of the value, as bash has it. It also names the
// variables that were unset without more.
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
	if m := substring.FindStringSubmatch(rest); m != nil && rest != ":" {
		if !ok {
			return "", []string{name}, nil
		}
		return part(v, m[1], m[2]), nil, nil
	}
	if rest[0] == ':' {
		ok = ok && v != ""
		rest = rest[1:]
	}
	if rest == "" || !slices.Contains([]byte("-?+"), rest[0]) {
		return "", nil, &fault.Error{What: fmt.Sprintf("${%s} is not understood", expr),
			Fix: "the forms are ${VAR}, ${VAR:-default}, ${VAR:?message}, ${VAR:+other} and ${VAR:0:7}"}
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

// substring is :OFFSET or :OFFSET:LENGTH. An offset from the end has a space before its
// sign, which tells it from a default.
// https://www.gnu.org/software/bash/manual/html_node/Shell-Parameter-Expansion.html
var substring = regexp.MustCompile(`^:( *[0-9]{1,5}| +-[0-9]{1,5})?(?::( *-?[0-9]{1,5}))?$`)

// part takes characters of a value; what lies outside it is left out.
func part(value, offset, length string) string {
	runes := []rune(value)
	number := func(text string) int {
		n, _ := strconv.Atoi(strings.TrimSpace(text)) // "" is 0
		return n
	}
	from := number(offset)
	if from < 0 {
		from += len(runes)
	}
	to := len(runes)
	if n := number(length); length != "" && n < 0 {
		to += n
	} else if length != "" {
		to = min(to, from+n)
	}
	if from < 0 || from >= to {
		return ""
	}
	return string(runes[from:to])
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
