package config

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/ecsbuild/ecsbuild/internal/fault"
)

// A document is a YAML file being read strictly: each reader below takes the
// node it expects, or says where another one stands.
type document struct {
	name    string // for messages
	path    string // where files named in it start
	lookup  func(string) (string, bool)
	anchors map[string]ast.Node
	depth   int

	unset    unsetSecrets
	visits   int // mappings that were read, again for each alias
	warnings []string
}

// unsetSecrets is what to do where env:NAME names a variable that is not set.
type unsetSecrets int

const (
	unsetRefused  unsetSecrets = iota
	unsetAllowed               // nobody will ask for the value
	unsetDeferred              // as unsetRefused, for the images that are kept
)

// maxDepth bounds aliases that refer to each other, and maxVisits what a few of
// them can be made to stand for.
const (
	maxDepth  = 40
	maxVisits = 100_000
)

func parseYAML(name string, data []byte, lookup func(string) (string, bool)) (*document, ast.Node, error) {
	d := &document{name: filepath.Base(name), path: name, lookup: lookup, anchors: map[string]ast.Node{}}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte order mark, as some editors write it
	if e := d.tooDeep(data); e != nil {
		return nil, nil, e
	}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		e := &fault.Error{Place: d.name, What: "this is not YAML", Why: err.Error()}
		var y yaml.Error
		if errors.As(err, &y) {
			e.Why = y.GetMessage()
			if t := y.GetToken(); t != nil {
				e.Place = fmt.Sprintf("%s:%d:%d", d.name, t.Position.Line, t.Position.Column)
			}
			if strings.Contains(e.Why, "already defined") {
				e.What = "duplicate key"
			}
		}
		return nil, nil, e
	}
	var root ast.Node
	for _, doc := range f.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if root != nil {
			return nil, nil, d.fail(doc.Body, "a second YAML document", "keep one document in the file")
		}
		root = doc.Body
	}
	if root != nil {
		ast.Walk(anchorVisitor(d.anchors), root)
	}
	return d, root, nil
}

// The parser takes time by the square of what is nested, and of what stands in one
// line. No configuration comes near these bounds.
const (
	maxBrackets = 1000
	maxLine     = 16 << 10 // bytes
)

// tooDeep refuses a text that would keep the parser busy for long.
func (d *document) tooDeep(data []byte) *fault.Error {
	number, depth := 0, 0
	for line := range bytes.Lines(data) {
		number++
		opened := bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
		depth = max(0, depth+opened-bytes.Count(line, []byte("]"))-bytes.Count(line, []byte("}")))
		if len(line) > maxLine || depth > maxBrackets || opened > maxBrackets {
			return &fault.Error{Place: fmt.Sprintf("%s:%d:1", d.name, number),
				What: "this line is too long, or nested too deeply",
				Fix:  "is this the right file?"}
		}
	}
	return nil
}

type anchorVisitor map[string]ast.Node

func (v anchorVisitor) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		v[a.Name.GetToken().Value] = a.Value
	}
	return v
}

func (d *document) fail(n ast.Node, what, fix string) *fault.Error {
	place := d.name
	if n != nil && n.GetToken() != nil {
		p := n.GetToken().Position
		place = fmt.Sprintf("%s:%d:%d", d.name, p.Line, p.Column)
	}
	return &fault.Error{Place: place, What: what, Fix: fix}
}

// at returns an error that was found without its place that of n.
func (d *document) at(n ast.Node, e *fault.Error) error {
	if e == nil {
		return nil
	}
	e.Place = d.fail(n, "", "").Place
	return e
}

// knownTags are YAML's own for what a configuration has.
// https://yaml.org/spec/1.2.2/#103-core-schema
var knownTags = []string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq"}

// resolve follows anchors and aliases.
func (d *document) resolve(n ast.Node) (ast.Node, error) {
	for range maxDepth {
		switch t := n.(type) {
		case *ast.AnchorNode:
			n = t.Value
		case *ast.AliasNode:
			target, ok := d.anchors[t.Value.GetToken().Value]
			if !ok {
				return nil, d.fail(n, "there is no anchor &"+t.Value.GetToken().Value, "")
			}
			n = target
		case *ast.TagNode:
			if tag := t.GetToken().Value; !slices.Contains(knownTags, tag) {
				return nil, d.fail(n, fmt.Sprintf("the tag %s is not understood", tag), "leave it out")
			}
			n = t.Value
		default:
			return n, nil
		}
	}
	return nil, d.fail(n, "an alias refers to itself", "")
}

type reader func(ast.Node) error

// A field is how the value of a key is read, and what an editor may know of it.
type field struct {
	read reader
	is   schema
}

// as returns the field another schema, and each one whose value may be one text or
// several.
func (f field) as(s schema) field   { return field{f.read, s} }
func (f field) each(s schema) field { return field{f.read, isEither(s, isList(s))} }

// mapping reads a mapping whose keys are known.
func (d *document) mapping(what string, keys map[string]field) reader {
	return func(n ast.Node) error {
		return d.each(what, n, func(key string, k, v ast.Node) error {
			field, ok := keys[key]
			if !ok {
				names := sortedKeys(keys)
				fix := fault.DidYouMean(key, names)
				if fix == "" {
					fix = "the keys here are " + strings.Join(names, ", ")
				}
				return d.fail(k, fmt.Sprintf("unknown key %q in %s", key, what), strings.TrimSpace(fix))
			}
			return field.read(v)
		})
	}
}

// each calls f for every entry; merge keys (<<) come in with what the mapping
// itself does not set.
func (d *document) each(what string, n ast.Node, f func(key string, k, v ast.Node) error) error {
	if d.visits++; d.visits > maxVisits {
		return d.fail(n, "this names more mappings, by its aliases, than any configuration has", "write out what is merged")
	}
	if d.depth++; d.depth > maxDepth {
		return d.fail(n, "this is nested too deeply, or an alias refers to itself", "")
	}
	defer func() { d.depth-- }()
	n, err := d.resolve(n)
	if err != nil {
		return err
	}
	var values []*ast.MappingValueNode
	switch t := n.(type) {
	case *ast.MappingNode:
		values = t.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{t}
	default:
		return d.wrong(n, what, "a mapping of keys to values")
	}
	seen := map[string]bool{}
	for _, v := range values {
		if _, ok := v.Key.(*ast.MergeKeyNode); !ok {
			key := v.Key.GetToken().Value
			if seen[key] {
				return d.fail(v.Key, fmt.Sprintf("duplicate key %q in %s", key, what), "keep one of them")
			}
			seen[key] = true
			if err := f(key, v.Key, v.Value); err != nil {
				return err
			}
		}
	}
	for _, v := range values {
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			merge := func(n ast.Node) error {
				return d.each(what, n, func(key string, k, v ast.Node) error {
					if seen[key] {
						return nil
					}
					seen[key] = true
					return f(key, k, v)
				})
			}
			if r, err := d.resolve(v.Value); err != nil {
				return err
			} else if _, ok := r.(*ast.SequenceNode); ok {
				merge = d.list(what, merge) // the first that has a key counts
			}
			if err := merge(v.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// list reads a sequence.
func (d *document) list(what string, item reader) reader {
	return func(n ast.Node) error {
		n, err := d.resolve(n)
		if err != nil {
			return err
		}
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			return d.wrong(n, what, "a list")
		}
		for _, v := range seq.Values {
			if err := item(v); err != nil {
				return err
			}
		}
		return nil
	}
}

// some reads a sequence that is not empty.
func (d *document) some(what string, item reader) reader {
	return func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		if seq, ok := r.(*ast.SequenceNode); ok && len(seq.Values) == 0 {
			return d.fail(n, what+" is an empty list", "add one, or leave the key out to use the environment")
		}
		return d.list(what, item)(n)
	}
}

func (d *document) wrong(n ast.Node, what, want string) error {
	return d.fail(n, fmt.Sprintf("%s must be %s, not %s", what, want, kind(n)), "")
}

func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "empty"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	}
	return "text"
}
