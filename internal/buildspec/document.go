package buildspec

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// phases of a buildspec, in the order in which CodeBuild runs them.
// https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html
var phases = []string{"install", "pre_build", "build", "post_build"}

// A document is the text of a buildspec, which may lie in a CloudFormation template. It is
// changed line by line, so that comments and everything else stay as they are.
type document struct {
	lines    []string // of the whole file
	first    int      // index of the buildspec's first line
	last     int      // after its last one
	indent   string   // of the buildspec in the file
	newline  string
	items    []*item
	exported []string // exported-variables

	environment []string // variables that it gives its commands
	blocks      []block
}

// An item is one entry of a list of commands.
type item struct {
	text  string
	phase string
	from  int // index of its first line in the file
	to    int // after its last one
	line  int // its number
	dash  int // the column of its dash
	block bool
}

// lineOf is the number of a line of the item's text in the file.
func (i *item) lineOf(n int) int {
	if i.block {
		return i.line + n
	}
	return i.line
}

// A block is what goes when all its items go.
type block struct {
	phase    string
	key      int // index of the line of its key, commands
	phaseKey int // that of the phase, -1 where the phase has other keys, too
}

var inTemplateFile = regexp.MustCompile(`(?i)^(\s*)BuildSpec:\s*(?:!Sub\s+)?[|>][-+0-9]*\s*$`)

// substituted finds a value that !Sub puts in; ${!V} is one of the shell's.
var substituted = regexp.MustCompile(`\$\{[A-Za-z]`)

// maxSize bounds a buildspec, in bytes.
const maxSize = 1 << 20

// parse finds the commands of a buildspec.
func parse(data []byte) (*document, error) {
	if len(data) > maxSize {
		return nil, errors.New("it is larger than 1 MB")
	}
	d := &document{newline: "\n"}
	text := string(data)
	if strings.Contains(text, "\r\n") {
		d.newline, text = "\r\n", strings.ReplaceAll(text, "\r\n", "\n")
	}
	d.lines = strings.Split(text, "\n")
	d.last = len(d.lines)
	for i, l := range d.lines { // a CloudFormation template
		m := inTemplateFile.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		if strings.Contains(l, "!Sub") && substituted.MatchString(text) {
			return nil, &NothingError{"CloudFormation puts values of its own into it (!Sub)"}
		}
		d.first, d.last = i+1, i+1
		for j := i + 1; j < len(d.lines); j++ {
			line := d.lines[j]
			if strings.TrimSpace(line) == "" {
				continue
			}
			indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
			if len(indent) <= len(m[1]) {
				break
			}
			if d.indent == "" {
				d.indent = indent
			}
			d.last = j + 1
		}
		break
	}
	var own []string
	for _, l := range d.lines[d.first:d.last] {
		own = append(own, strings.TrimPrefix(l, d.indent))
	}
	return d, d.read(strings.Join(own, "\n") + "\n")
}

// read takes commands out of the buildspec's own text.
func (d *document) read(text string) error {
	f, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		return fmt.Errorf("it is not YAML: %w", err)
	}
	if len(f.Docs) == 0 || f.Docs[0].Body == nil {
		return &NothingError{"it is empty"}
	}
	root := entries(f.Docs[0].Body)
	env := entries(root["env"].value)
	if shell := scalar(env["shell"].value); shell != "" && shell != "bash" && shell != "/bin/sh" && shell != "sh" {
		return &NothingError{"its commands are for " + shell}
	}
	for _, key := range []string{"variables", "parameter-store", "secrets-manager"} {
		for name := range entries(env[key].value) {
			d.environment = append(d.environment, name)
		}
	}
	for _, name := range phases {
		phase := entries(entries(f.Docs[0].Body)["phases"].value)[name]
		keys := entries(phase.value)
		for _, key := range []string{"commands", "finally"} {
			e, ok := keys[key]
			if !ok {
				continue
			}
			seq, ok := e.value.(*ast.SequenceNode)
			if !ok || seq.IsFlowStyle {
				return &NothingError{fmt.Sprintf("line %d: %s of %s is no list with a line for each command", d.first+e.line, key, name)}
			}
			b := block{phase: name + "." + key, key: d.first + e.line - 1, phaseKey: -1}
			if len(keys) == 1 {
				b.phaseKey = d.first + phase.line - 1
			}
			d.blocks = append(d.blocks, b)
			if err := d.readItems(seq, b.phase); err != nil {
				return err
			}
		}
	}
	if len(d.items) == 0 {
		return &NothingError{"it has no commands"}
	}
	if seq, ok := entries(root["env"].value)["exported-variables"].value.(*ast.SequenceNode); ok {
		for _, v := range seq.Values {
			d.exported = append(d.exported, v.GetToken().Value)
		}
	}
	return nil
}

// An entryNode is the value of a key, and the number of the key's line.
type entryNode struct {
	value ast.Node
	line  int
}

func entries(n ast.Node) map[string]entryNode {
	out := map[string]entryNode{}
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	}
	for _, v := range values {
		t := v.Key.GetToken()
		out[t.Value] = entryNode{v.Value, t.Position.Line}
	}
	return out
}

var dashed = regexp.MustCompile(`^\s*-(\s|$)`)

func (d *document) readItems(seq *ast.SequenceNode, phase string) error {
	for _, v := range seq.Values {
		it := &item{phase: phase}
		switch n := v.(type) {
		case *ast.StringNode:
			it.text = n.Value
		case *ast.LiteralNode:
			it.text, it.block = n.Value.Value, strings.HasPrefix(n.Start.Value, "|")
		case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
			return &NothingError{fmt.Sprintf("line %d: anchors, aliases and tags of YAML are not understood", d.first+v.GetToken().Position.Line)}
		case *ast.NullNode:
			continue
		default:
			it.text = v.GetToken().Value
		}
		at := min(d.first+v.GetToken().Position.Line, d.last) - 1 // a \r of its own ends a line for the parser
		for at > d.first && !dashed.MatchString(d.lines[at]) {
			at--
		}
		if !dashed.MatchString(d.lines[at]) || len(d.items) > 0 && d.items[len(d.items)-1].from >= at {
			return &NothingError{fmt.Sprintf("line %d: the form of its YAML is not one that can be changed line by line", at+1)}
		}
		it.from, it.line = at, at+1
		it.dash = strings.IndexByte(d.lines[at], '-')
		it.to = at + 1
		for j := at + 1; j < d.last; j++ {
			line := d.lines[j]
			if strings.TrimSpace(line) == "" {
				continue
			}
			if len(line)-len(strings.TrimLeft(line, " ")) <= it.dash {
				break
			}
			if strings.HasPrefix(strings.TrimSpace(line), "#") && !it.block && j == it.to && isComment(d.lines, j, d.last, it.dash) {
				break
			}
			it.to = j + 1
		}
		d.items = append(d.items, it)
	}
	return nil
}

// isComment says whether the lines from one on are comments until the next entry.
func isComment(lines []string, from, to, dash int) bool {
	for _, l := range lines[from:to] {
		t := strings.TrimSpace(l)
		if t == "" || strings.HasPrefix(t, "#") {
			continue
		}
		return len(l)-len(strings.TrimLeft(l, " ")) <= dash
	}
	return true
}
