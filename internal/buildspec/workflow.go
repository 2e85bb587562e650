package buildspec

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// action is the one that takes the place of steps that build and push.
const action = "ecsbuild/ecsbuild@v0.1.0"

// A workflow of GitHub Actions, of which one job has steps that build images and push them.
type workflow struct {
	*converter
	lines   []string
	newline string
	steps   []*step

	env         map[string]string            // templates that all steps of the job have
	expressions map[string]string            // that variables of the action have, by their names
	outputs     map[string]map[string]string // templates of steps, by their IDs
	digests     map[string]*build            // of steps of docker/build-push-action, by their IDs
	logins      map[string]string            // the registry, by the IDs of amazon-ecr-login
	hint        string                       // what a variable may be called, "" for nothing
	folder      string                       // where run steps begin, "" for that of the sources
	problems    []Problem
}

// A step of the job.
type step struct {
	id, name, uses string
	keys           map[string]entryNode
	from, to, dash int // lines in the file, and the column of the dash
	commands       []*command
	login          bool   // of amazon-ecr-login
	gone           bool   // ecsbuild does it
	before, after  string // commands of it that stay, in a step of their own
}

// IsWorkflow says whether a file is a workflow of GitHub Actions.
func IsWorkflow(data []byte) bool {
	root := rootOf(data)
	return root["jobs"].value != nil && root["phases"].value == nil
}

// PushesImages says whether a file is a workflow with a job that builds images and pushes them.
func PushesImages(data []byte) bool {
	return len(pushJobs(entries(rootOf(data)["jobs"].value))) > 0
}

// rootOf are the entries of a file, none for one that is not YAML.
func rootOf(data []byte) map[string]entryNode {
	f, err := parser.ParseBytes(data, 0)
	if err != nil || len(f.Docs) == 0 || f.Docs[0].Body == nil {
		return nil
	}
	return entries(f.Docs[0].Body)
}

// pushJobs are the names of the jobs that build images and push them.
func pushJobs(jobs map[string]entryNode) (found []string) {
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		if steps, ok := entries(jobs[name].value)["steps"].value.(*ast.SequenceNode); ok &&
			slices.ContainsFunc(steps.Values, isPushStep) {
			found = append(found, name)
		}
	}
	return found
}

// ConvertWorkflow moves a workflow of GitHub Actions over: the steps of a job that build images
// and push them to ECR become one with the action. All of them are translated, or none. read
// returns a file of the sources, by its path. Its error is a *NothingError, or says why the
// file cannot be read.
func ConvertWorkflow(data []byte, read func(path string) ([]byte, error)) (*Conversion, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("it is larger than 1 MB")
	}
	w := &workflow{newline: "\n", env: map[string]string{}, expressions: map[string]string{},
		outputs: map[string]map[string]string{},
		digests: map[string]*build{}, logins: map[string]string{}}
	w.converter = newConverter(read)
	w.names = w.nameContainers
	if setsCommit.Match(data) {
		w.commit = "${GITHUB_SHA}"
	}
	text := string(data)
	if strings.Contains(text, "\r\n") {
		w.newline, text = "\r\n", strings.ReplaceAll(text, "\r\n", "\n")
	}
	w.lines = strings.Split(text, "\n")
	if err := w.parse(text); err != nil {
		return nil, err
	}
	for _, s := range w.steps {
		w.follow(s)
	}
	w.checkOrder()
	config := w.settle()
	w.check()
	for _, cmd := range w.failed() {
		w.problem(cmd.line, shorten(w.withExpressions(cmd.text)), cmd.why)
	}
	if len(w.problems) > 0 || config == "" {
		if len(w.problems) == 0 {
			return nil, &NothingError{"it builds and pushes no image that ecsbuild could"}
		}
		slices.SortStableFunc(w.problems, func(a, b Problem) int { return a.Line - b.Line })
		return &Conversion{Problems: w.problems}, nil
	}
	edited := w.edit(config)
	if len(w.problems) > 0 {
		return &Conversion{Problems: w.problems}, nil
	}
	return &Conversion{Buildspec: edited, Config: config, Notes: append(w.notes,
		"the action is taken by its version: docs/github-actions.md shows how to pin it")}, nil
}

func (w *workflow) problem(line int, what, why string) {
	if !slices.ContainsFunc(w.problems, func(p Problem) bool { return p.Line == line && p.Why == why }) {
		w.problems = append(w.problems, Problem{line, what, why})
	}
}

// scalar is the text of a value, "" for a list or mapping.
func scalar(n ast.Node) string {
	switch n := n.(type) {
	case nil:
		return ""
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode, *ast.NullNode:
		return ""
	}
	return n.GetToken().Value
}

// parse finds the job, and the lines of its steps.
func (w *workflow) parse(text string) error {
	f, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		return fmt.Errorf("it is not YAML: %w", err)
	}
	if len(f.Docs) == 0 || f.Docs[0].Body == nil {
		return &NothingError{"it is empty"}
	}
	root := entries(f.Docs[0].Body)
	jobs := entries(root["jobs"].value)
	found := pushJobs(jobs)
	switch len(found) {
	case 0:
		return &NothingError{"none of its jobs has a step that builds and pushes an image"}
	case 1:
	default:
		return &NothingError{"several of its jobs build images: " + strings.Join(found, ", ")}
	}
	job := entries(jobs[found[0]].value)
	seq := job["steps"].value.(*ast.SequenceNode)
	if seq.IsFlowStyle {
		return &NothingError{"its steps do not stand on lines of their own"}
	}
	for _, at := range []map[string]entryNode{root, job} {
		env := entries(at["env"].value)
		for _, name := range slices.Sorted(maps.Keys(env)) {
			if t, err := w.template(scalar(env[name].value)); err == nil {
				w.env[name] = t
			}
		}
		run := entries(entries(at["defaults"].value)["run"].value)
		if dir := scalar(run["working-directory"].value); dir != "" {
			w.folder = dir
		}
		if shell := run["shell"]; scalar(shell.value) != "" && scalar(shell.value) != "bash" {
			w.problem(shell.line, "shell: "+scalar(shell.value), "another shell is not understood")
		}
	}
	for _, v := range seq.Values {
		s := &step{keys: entries(v)}
		s.id, s.name, s.uses = scalar(s.keys["id"].value), scalar(s.keys["name"].value), scalar(s.keys["uses"].value)
		at := min(v.GetToken().Position.Line, len(w.lines)) - 1
		for at > 0 && !dashed.MatchString(w.lines[at]) {
			at--
		}
		if !dashed.MatchString(w.lines[at]) || len(w.steps) > 0 && w.steps[len(w.steps)-1].from >= at {
			return &NothingError{fmt.Sprintf("line %d: the form of its YAML is not one that can be changed line by line", at+1)}
		}
		s.from, s.to, s.dash = at, at+1, strings.IndexByte(w.lines[at], '-')
		for j := at + 1; j < len(w.lines); j++ {
			if strings.TrimSpace(w.lines[j]) == "" {
				continue
			}
			if len(w.lines[j])-len(strings.TrimLeft(w.lines[j], " ")) <= s.dash {
				break
			}
			s.to = j + 1
		}
		w.steps = append(w.steps, s)
	}
	return nil
}

var pushStep = regexp.MustCompile(`\bdocker(-compose)?\b.*\b(push|bake)\b`)

// isPushStep says whether a step builds and pushes an image.
func isPushStep(v ast.Node) bool {
	keys := entries(v)
	return strings.HasPrefix(scalar(keys["uses"].value), "docker/build-push-action@") ||
		pushStep.MatchString(scalar(keys["run"].value))
}
