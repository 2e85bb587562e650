package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/ecsbuild/ecsbuild/internal/fault"
)

// scalar returns the text of a scalar as it was written, variables replaced.
func (d *document) scalar(what string, n ast.Node) (string, error) {
	text, _, err := d.interpolated(what, n)
	return text, err
}

// interpolated is scalar, and names the variables that are not set.
func (d *document) interpolated(what string, n ast.Node) (_ string, unset []string, _ error) {
	n, err := d.resolve(n)
	if err != nil {
		return "", nil, err
	}
	var text string
	switch t := n.(type) {
	case *ast.StringNode:
		text = t.Value
	case *ast.LiteralNode:
		text = t.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		text = n.GetToken().Value // 012345678901 and 1.10 stay as they are
	default:
		return "", nil, d.wrong(n, what, "text")
	}
	out, unset, ferr := interpolate(text, d.lookup)
	if ferr != nil {
		return "", nil, d.at(n, ferr)
	}
	for _, v := range unset {
		d.warnings = append(d.warnings, fmt.Sprintf("%s: the variable %s is not set, so it is empty in %s",
			d.fail(n, "", "").Place, v, what))
	}
	return out, unset, nil
}

func (d *document) text(what string, into *string) field {
	return d.checked(what, into, nil)
}

// checked reads a text and asks check whether it will do.
func (d *document) checked(what string, into *string, check func(string) *fault.Error) field {
	return field{func(n ast.Node) error {
		s, unset, err := d.interpolated(what, n)
		if err != nil {
			return err
		}
		if check != nil {
			if e := check(s); e != nil {
				return d.at(n, blame(e, unset))
			}
		}
		*into = s
		return nil
	}, isText}
}

// blame says that what is wrong with a text may come from variables that are not set.
func blame(e *fault.Error, unset []string) *fault.Error {
	slices.Sort(unset)
	unset = slices.Compact(unset)
	if len(unset) == 0 {
		return e
	}
	verb, pronoun := "is", "it"
	if len(unset) > 1 {
		verb, pronoun = "are", "them"
	}
	names := strings.Join(unset, " and ")
	return &fault.Error{What: fmt.Sprintf("%s %s not set", names, verb), Why: e.What,
		Fix: fmt.Sprintf("set %s as the build has %s, or write a default, as in ${%s:-…}", names, pronoun, unset[0])}
}

// oneOf reads one of a few words into a value of their type.
func oneOf[T ~string](d *document, what string, into *T, values ...T) field {
	var words []string
	for _, v := range values {
		words = append(words, string(v))
	}
	var text string
	f := d.checked(what, &text, func(s string) *fault.Error {
		if slices.Contains(words, s) {
			*into = T(s)
			return nil
		}
		return &fault.Error{What: fmt.Sprintf("%q is not understood", s), Fix: "write " + strings.Join(words, " or ")}
	})
	f.is = isOneOf(words)
	return f
}

func (d *document) boolean(what string, into *bool) field {
	return field{func(n ast.Node) error {
		s, err := d.scalar(what, n)
		if err != nil {
			return err
		}
		v, err := strconv.ParseBool(strings.ToLower(s))
		if err != nil {
			return d.fail(n, fmt.Sprintf("%s must be true or false, not %q", what, s), "")
		}
		*into = v
		return nil
	}, isBoolean}
}

// texts reads a list of texts, or one text as a list of one.
func (d *document) texts(what string, into *[]string, check func(string) *fault.Error) field {
	return field{func(n ast.Node) error {
		item := func(n ast.Node) error {
			var s string
			if err := d.checked(what, &s, check).read(n); err != nil {
				return err
			}
			*into = append(*into, s)
			return nil
		}
		if r, err := d.resolve(n); err != nil {
			return err
		} else if _, ok := r.(*ast.SequenceNode); ok {
			return d.list(what, item)(n)
		}
		return item(n)
	}, isEither(isText, isList(isText))}
}

// tags reads one tag or a list. A variable may hold several, as IMAGE_TAG may.
func (d *document) tags(what string, into *[]string) field {
	item := func(n ast.Node) error {
		s, unset, err := d.interpolated(what, n)
		if err != nil {
			return err
		}
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		tags, check := []string{s}, checkTag
		if t, ok := r.(*ast.StringNode); ok && strings.Contains(t.Value, "$") {
			tags, check = splitTags(s), checkTags
		}
		*into = append(*into, tags...)
		if e := check(s); e != nil {
			return d.at(n, blame(e, unset))
		}
		return nil
	}
	return field{func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		if kind(r) == "a list" {
			return d.list(what, item)(n)
		}
		return item(n)
	}, isEither(isText, isList(isText))}
}

// pairs reads Compose's two spellings: a mapping, or a list of "key=value".
// A key without a value takes that of the environment, as in Compose; where
// that is unset the key is left out.
func (d *document) pairs(what string, into *map[string]string, fromEnv bool) field {
	put := func(k, v string) {
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)[k] = v
	}
	item := isText
	if !fromEnv {
		item = isLike(`^[^=]+=`)
	}
	return field{func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		if _, ok := r.(*ast.SequenceNode); ok {
			return d.list(what, func(n ast.Node) error {
				s, err := d.scalar(what, n)
				if err != nil {
					return err
				}
				i := strings.IndexByte(s, '=')
				if i < 0 && fromEnv {
					if v, ok := d.lookup(s); ok {
						put(s, v)
					}
					return nil
				}
				if i <= 0 {
					return d.fail(n, fmt.Sprintf("%s: %q is not of the form name=value", what, s), "")
				}
				put(s[:i], s[i+1:])
				return nil
			})(n)
		}
		return d.each(what, n, func(key string, _, v ast.Node) error {
			if r, err := d.resolve(v); err != nil {
				return err
			} else if _, ok := r.(*ast.NullNode); ok {
				if v, ok := d.lookup(key); ok && fromEnv {
					put(key, v)
				} else if !fromEnv {
					put(key, "")
				}
				return nil
			}
			s, err := d.scalar(what+"."+key, v)
			if err == nil {
				put(key, s)
			}
			return err
		})
	}, isEither(isList(item), isMap(isEither(isText, isNull)))}
}
