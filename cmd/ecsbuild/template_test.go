package main

import (
	"regexp"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// template evaluates the functions of a CloudFormation template, as far as ours goes.
type template struct {
	*testing.T
	values     map[string]string
	conditions map[string]ast.Node
}

// noValue is what AWS::NoValue stands for: the entry is left out.
type noValue struct{}

// evaluateTemplate returns the resources of a template with these parameters.
func evaluateTemplate(t *testing.T, file string, parameters ...map[string]string) map[string]any {
	t.Helper()
	parsed, err := parser.ParseFile(file, 0)
	if err != nil {
		t.Fatal(err)
	}
	e := template{t, map[string]string{"AWS::AccountId": "111122223333", "AWS::Region": "eu-central-1",
		"AWS::Partition": "aws", "AWS::StackName": "shop"}, map[string]ast.Node{}}
	sections := map[string]ast.Node{}
	for _, section := range parsed.Docs[0].Body.(*ast.MappingNode).Values {
		sections[section.Key.String()] = section.Value
	}
	for _, p := range sections["Parameters"].(*ast.MappingNode).Values {
		if text, ok := e.value(p.Value).(map[string]any)["Default"].(string); ok {
			e.values[p.Key.String()] = text
		}
	}
	for _, given := range parameters {
		for k, v := range given {
			e.values[k] = v
		}
	}
	for _, c := range sections["Conditions"].(*ast.MappingNode).Values {
		e.conditions[c.Key.String()] = c.Value
	}
	return e.value(sections["Resources"]).(map[string]any)
}

func (e template) value(n ast.Node) any {
	switch n := n.(type) {
	case *ast.MappingNode:
		m := map[string]any{}
		for _, v := range n.Values {
			if value := e.value(v.Value); value != (noValue{}) {
				m[v.Key.(ast.ScalarNode).GetValue().(string)] = value
			}
		}
		return m
	case *ast.SequenceNode:
		list := []any{}
		for _, v := range n.Values {
			if value := e.value(v); value != (noValue{}) {
				list = append(list, value)
			}
		}
		return list
	case *ast.TagNode:
		return e.function(n.Start.Value, n.Value)
	case *ast.LiteralNode:
		return n.Value.Value
	case ast.ScalarNode:
		return n.GetValue()
	}
	e.Fatalf("%T in the template: %s", n, n)
	return nil
}

var reference = regexp.MustCompile(`\$\{([A-Za-z0-9:.]+)\}`)

func (e template) function(name string, argument ast.Node) any {
	switch name {
	case "!Ref":
		id := e.value(argument).(string)
		if id == "AWS::NoValue" {
			return noValue{}
		}
		if v, ok := e.values[id]; ok {
			return v
		}
		return "{" + id + "}" // a resource
	case "!GetAtt":
		return "{" + e.value(argument).(string) + "}"
	case "!Split", "!Select":
		return "{" + name + "}"
	case "!Sub":
		if with, ok := argument.(*ast.SequenceNode); ok { // with values of its own
			argument = with.Values[0]
		}
		return reference.ReplaceAllStringFunc(e.value(argument).(string), func(r string) string {
			if v, ok := e.values[r[2:len(r)-1]]; ok {
				return v
			}
			return r[1:]
		})
	case "!If":
		branches := argument.(*ast.SequenceNode).Values
		if e.value(e.conditions[e.value(branches[0]).(string)]).(bool) {
			return e.value(branches[1])
		}
		return e.value(branches[2])
	case "!Not":
		return !e.value(argument).([]any)[0].(bool)
	case "!Equals":
		sides := e.value(argument).([]any)
		return sides[0] == sides[1]
	}
	e.Fatalf("the function %s", name)
	return nil
}
