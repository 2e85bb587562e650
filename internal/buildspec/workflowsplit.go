package buildspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// check finds what would be lost, or come in another order.
func (w *workflow) check() {
	first, last := -1, -1
	for i, s := range w.steps {
		if s.gone {
			if last = i; first < 0 {
				first = i
			}
		}
		for _, cmd := range w.split(s) {
			w.problem(cmd.line, shorten(w.withExpressions(cmd.text)),
				"it is in a step that builds or pushes: give it one of its own")
		}
	}
	for i, s := range w.steps {
		if i > first && i < last && !s.gone && !s.login && w.usesImages(s) {
			w.problem(s.from+1, strings.TrimSpace(w.lines[s.from]),
				"it uses an image between its build and its push: make it a gate, see docs/configuration.md")
		}
	}
}

// split finds the commands of a step before its first build and after its last push that stay,
// and returns those that cannot.
func (w *workflow) split(s *step) (stuck []*command) {
	docker := func(cmd *command) bool { return cmd.build != nil }
	first := slices.IndexFunc(s.commands, docker)
	last := len(s.commands) - 1
	for last > first && !docker(s.commands[last]) {
		last--
	}
	from, to := len(s.commands), -1 // of those after the last push, and before the first build
	for i, cmd := range s.commands {
		switch {
		case len(cmd.exports) > 0 && cmd.why == "":
			w.problem(cmd.line, shorten(w.withExpressions(cmd.text)),
				"its value is known only when it runs: set it in an earlier step, by GITHUB_ENV")
		case cmd.why != "" || cmd.replaced || cmd.output || cmd.harmless():
		case first >= 0 && i < first && cmd.stmt != nil:
			to = i
		case i > last && cmd.stmt != nil && len(cmd.images) == 0:
			from = min(from, i)
		default:
			stuck = append(stuck, cmd)
		}
	}
	text := func(cmds []*command) string {
		var lines []string
		for _, cmd := range cmds {
			if !cmd.output && !cmd.login {
				lines = append(lines, w.withExpressions(cmd.text))
			}
		}
		return strings.Join(lines, "\n")
	}
	s.before, s.after = text(s.commands[:to+1]), text(s.commands[from:])
	assigned := map[string]bool{}
	for _, cmd := range s.commands[:from] {
		maps.Copy(assigned, cmd.assigns)
	}
	for _, cmd := range s.commands[from:] { // in a shell of its own
		for name := range cmd.uses {
			if assigned[name] {
				stuck = append(stuck, cmd)
				break
			}
		}
		if cmd.folder != s.commands[0].folder {
			stuck = append(stuck, cmd)
		}
	}
	return stuck
}

// ownStep is a step for commands that stay.
func (w *workflow) ownStep(s *step, commands string) (out []string) {
	if commands == "" {
		return nil
	}
	pad := strings.Repeat(" ", s.dash)
	out = append(out, pad+"- run: |")
	for _, l := range strings.Split(commands, "\n") {
		out = append(out, pad+"    "+l)
	}
	for _, key := range []string{"working-directory", "shell"} {
		if v := scalar(s.keys[key].value); v != "" {
			out = append(out, fmt.Sprintf("%s  %s: %s", pad, key, v))
		}
	}
	env := entries(s.keys["env"].value)
	var used []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.Contains(commands, name) || strings.HasPrefix(name, "AWS_") {
			used = append(used, fmt.Sprintf("%s    %s: %s", pad, name, quote(scalar(env[name].value))))
		}
	}
	if len(used) > 0 {
		out = append(append(out, pad+"  env:"), used...)
	}
	return out
}

// usesImages says whether a step names an image that is built before, as far as can be seen.
func (w *workflow) usesImages(s *step) bool {
	text := strings.Join(w.lines[s.from:s.to], "\n")
	if strings.Contains(text, "docker ") {
		return true
	}
	for _, other := range w.steps {
		if (other.gone || other.login) && other.id != "" && strings.Contains(text, "steps."+other.id+".outputs") {
			return true
		}
	}
	for name := range w.local {
		ref := parseReference(name)
		if isFixed(ref.name) && strings.Contains(text, ref.name) {
			return true
		}
	}
	return false
}
