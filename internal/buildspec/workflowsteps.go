package buildspec

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"mvdan.cc/sh/v3/syntax"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// follow goes through one step.
func (w *workflow) follow(s *step) {
	run := scalar(s.keys["run"].value)
	switch {
	case strings.HasPrefix(s.uses, "aws-actions/amazon-ecr-login@"):
		with := entries(s.keys["with"].value)
		s.login = true
		w.logins[s.id] = callerAccount + ".dkr.ecr." + callerRegion + ".amazonaws.com"
		if scalar(with["registry-type"].value) == "public" {
			w.logins[s.id] = plan.PublicRegistry
		}
		if with["registries"].value != nil {
			w.problem(s.from+1, s.uses, "it logs in to registries of other accounts")
		}
	case strings.HasPrefix(s.uses, "docker/build-push-action@"):
		w.buildPush(s)
	case run != "" && (mentionsDocker.MatchString(run) || getPassword.MatchString(run)):
		w.run(s, run)
	}
	if !s.gone {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		if !slices.Contains([]string{"id", "name", "uses", "with", "run", "env", "shell", "working-directory",
			"timeout-minutes"}, key) {
			w.problem(s.keys[key].line, key+" of a step that builds or pushes", "it is not translated")
		}
	}
	if shell := scalar(s.keys["shell"].value); shell != "" && shell != "bash" && shell != "sh" {
		w.problem(s.keys["shell"].line, "shell: "+shell, "another shell is not understood")
	}
}

// mark stands in the text of the shell for an expression of GitHub's, which is put there
// before the shell runs.
var mark = regexp.MustCompile("\uE001([0-9]+)\uE001")

// run follows the commands of a step, in a shell of its own.
func (w *workflow) run(s *step, run string) {
	s.gone = true
	line := s.keys["run"].line
	var failed error
	text := expression.ReplaceAllStringFunc(run, func(m string) string {
		value, err := w.expression(expression.FindStringSubmatch(m)[1])
		if err != nil {
			failed = err
		}
		n := strconv.Itoa(len(w.inserted))
		w.inserted[n] = insertion{value, m}
		return "\uE001" + n + "\uE001"
	})
	if failed != nil {
		w.problem(line, shorten(run), failed.Error())
		return
	}
	c := w.converter
	c.variables, c.folder, c.lost, c.allExport = map[string]assigned{}, sourceFolder, false, false
	known := func(name, value string) {
		c.variables[name] = assigned{value: value, known: true, at: &command{assigns: map[string]bool{}}}
	}
	for name, value := range w.env {
		known(name, value)
	}
	env := entries(s.keys["env"].value)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		e := env[name]
		if w.hint = name; w.env[name] != "" {
			w.hint = ""
		}
		value, err := w.template(scalar(e.value))
		w.hint = ""
		if err != nil {
			w.problem(e.line, name, err.Error())
			return
		}
		known(name, value)
	}
	if dir := cmp.Or(scalar(s.keys["working-directory"].value), w.folder); dir != "" {
		t, err := w.template(dir)
		if err != nil {
			w.problem(line, "working-directory: "+dir, err.Error())
		}
		c.cd(t)
	}
	first := len(c.commands)
	_, block := s.keys["run"].value.(*ast.LiteralNode)
	c.follow(&item{text: text, line: line, block: block, phase: "steps"})
	s.commands = c.commands[first:]
	for _, cmd := range s.commands {
		w.takeOutput(s, cmd)
	}
}

var setOutput = regexp.MustCompile(`^::set-output name=([A-Za-z0-9_-]+)::(.*)$`)

// takeOutput follows a command that sets an output of its step.
func (w *workflow) takeOutput(s *step, cmd *command) {
	if cmd.stmt == nil {
		return
	}
	call, ok := cmd.stmt.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) != 2 || call.Args[0].Lit() != "echo" {
		return
	}
	value, err := w.word(call.Args[1])
	if err != nil {
		return
	}
	name := ""
	switch m := setOutput.FindStringSubmatch(value); {
	case m != nil:
		name, value = m[1], m[2]
	case len(cmd.stmt.Redirs) == 1 && cmd.stmt.Redirs[0].Op == syntax.AppOut:
		to, err := w.word(cmd.stmt.Redirs[0].Word)
		if err != nil || to != "${GITHUB_OUTPUT}" {
			return
		}
		name, value, ok = strings.Cut(value, "=")
	default:
		return
	}
	if !ok {
		return
	}
	if w.outputs[s.id] == nil {
		w.outputs[s.id] = map[string]string{}
	}
	w.outputs[s.id][name] = value
	cmd.output = true
}

// buildPush follows a step of docker/build-push-action.
func (w *workflow) buildPush(s *step) {
	s.gone = true
	c := w.converter
	cmd := c.newCommand(&item{phase: "steps", line: s.from + 1}, s.from+1, s.uses)
	b := &build{at: cmd, lists: map[string][]string{}, context: sourceFolder}
	cmd.build, cmd.pushes, s.commands = b, true, []*command{cmd}
	c.builds = append(c.builds, b)
	c.folder, c.lost = sourceFolder, false
	with := entries(s.keys["with"].value)
	if push := scalar(with["push"].value); push != "true" {
		c.problem(cmd, "whether it pushes is not known: push is "+strconv.Quote(push))
		return
	}
	list := func(text string) (out []string) {
		for _, l := range strings.Split(text, "\n") {
			if l = strings.TrimSpace(l); l != "" {
				out = append(out, l)
			}
		}
		return out
	}
	for _, key := range slices.Sorted(maps.Keys(with)) {
		raw := scalar(with[key].value)
		text, err := w.template(raw)
		if err != nil {
			c.problem(cmd, err.Error())
			return
		}
		switch key {
		case "push", "load", "builder", "github-token":
		case "provenance", "sbom":
			if raw != "false" {
				c.notes = append(c.notes, key+" of docker/build-push-action is left out: ecsbuild pushes no attestations")
			}
		case "context":
			if strings.Contains(text, "{{") {
				c.problem(cmd, "its context is fetched by the build")
			}
			if b.context = text; !isURL(text) {
				b.context = c.path(text)
			}
		case "file":
			b.dockerfile = c.path(text)
		case "target":
			b.target = text
		case "tags":
			for _, l := range list(text) {
				for _, t := range strings.Split(l, ",") {
					b.names = append(b.names, parseReference(strings.TrimSpace(t)))
				}
			}
		case "build-args", "labels":
			for _, l := range list(text) {
				name, value, ok := strings.Cut(l, "=")
				p := pair{name, value, !ok}
				if key == "labels" {
					b.labels = append(b.labels, p)
				} else {
					b.args = append(b.args, p)
				}
			}
		case "platforms":
			b.lists["platforms"] = strings.Split(strings.Join(list(text), ","), ",")
		case "no-cache", "pull":
			if raw == "true" {
				b.flags = append(b.flags, strings.ReplaceAll(key, "-", "_"))
			}
		case "cache-from", "cache-to":
			for _, l := range list(text) {
				if strings.Contains(l, "type=gha") {
					note := "GitHub's own cache (type=gha) is left out: cache: registry or local keeps the steps, see docs/speed.md"
					if !slices.Contains(c.notes, note) {
						c.notes = append(c.notes, note)
					}
					continue
				}
				b.lists[strings.ReplaceAll(key, "-", "_")] = append(b.lists[strings.ReplaceAll(key, "-", "_")], l)
			}
		default:
			c.problem(cmd, key+" of docker/build-push-action is not translated")
		}
	}
	for _, n := range b.names {
		if _, ok := n.destination(c.isSet); !ok {
			c.problem(cmd, "it goes to another registry than ECR")
			return
		}
		c.local[n.String()] = b
	}
	b.pushed = slices.Clone(b.names)
	w.digests[s.id] = b
}
