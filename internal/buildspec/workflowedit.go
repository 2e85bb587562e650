package buildspec

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// nameContainers gives each image a name, by which the outputs of the action call it: that of
// the container for which a step renders a task definition, or else its repository's.
func (w *workflow) nameContainers(images []*outcome) {
	w.noDefinitions = true
	for _, s := range w.steps {
		if !strings.HasPrefix(s.uses, "aws-actions/amazon-ecs-render-task-definition@") {
			continue
		}
		with := entries(s.keys["with"].value)
		container, err1 := w.template(scalar(with["container-name"].value))
		ref, err2 := w.imageOf(scalar(with["image"].value))
		if o := w.find(images, ref); o != nil && err1 == nil && err2 == nil && isFixed(container) &&
			slices.Contains(o.tags, ref.tag) && len(o.containers) == 0 {
			o.containers = []string{container}
		}
	}
	taken := map[string]bool{}
	for _, o := range images {
		if len(o.containers) == 0 {
			name := o.repository[strings.LastIndex(o.repository, "/")+1:]
			if !isFixed(name) || name == "" {
				name = "image"
			}
			for base, n := name, 2; taken[name]; n++ {
				name = base + "-" + strconv.Itoa(n)
			}
			o.containers = []string{name}
		}
		taken[o.containers[0]] = true
	}
}

// imageOf is the image that a value of the workflow names.
func (w *workflow) imageOf(text string) (reference, error) {
	out, err := w.template(text)
	return parseReference(out), err
}

// edit writes the workflow with the action in the place of the last step that is gone.
func (w *workflow) edit(config string) string {
	var at *step
	id := ""
	for _, s := range w.steps {
		if s.gone {
			at = s
			id = cmp.Or(s.id, id)
		}
	}
	used := w.rewriteOutputs(cmp.Or(id, "ecsbuild"), at)
	if used {
		id = cmp.Or(id, "ecsbuild")
	}
	gone := map[int]bool{}
	for _, s := range w.steps {
		if s.gone || s.login && w.loginIsIdle(s) {
			for i := s.from; i < s.to; i++ {
				gone[i] = true
			}
			for i := s.to; s != at && i < len(w.lines) && strings.TrimSpace(w.lines[i]) == ""; i++ {
				gone[i] = true
			}
		}
	}
	var out []string
	for i, l := range w.lines {
		for _, s := range w.steps {
			if s.gone && s.from == i {
				out = append(out, w.ownStep(s, s.before)...)
				if s == at {
					out = append(out, w.actionStep(s, id, config)...)
				}
				out = append(out, w.ownStep(s, s.after)...)
			}
		}
		if !gone[i] {
			out = append(out, l)
		}
	}
	return strings.Join(out, w.newline)
}

// outputOfStep finds an output of a step within an expression.
var outputOfStep = regexp.MustCompile(`steps\.[A-Za-z0-9_-]+\.outputs\.[A-Za-z0-9_-]+`)

// rewriteOutputs has the lines that stay read the outputs of the action, which has the ID,
// where they read those of steps that are gone, and says whether any does. at is the step in
// whose place the action stands.
func (w *workflow) rewriteOutputs(id string, at *step) (used bool) {
	notes := w.notes
	images := w.images()
	w.nameContainers(images)
	w.notes = notes // which they have told before
	deployed := map[*outcome]string{}
	output := func(line int, ref string) string {
		parts := fromStep.FindStringSubmatch(ref)
		if !slices.ContainsFunc(w.steps, func(s *step) bool { return s.gone && s.id == parts[1] }) {
			return ref
		}
		used = true
		if b := w.digests[parts[1]]; b != nil && parts[2] == "digest" {
			if o := slices.IndexFunc(images, func(o *outcome) bool { return o.build == b }); o >= 0 {
				return "fromJSON(steps." + id + ".outputs.digests)" + property(images[o].containers[0])
			}
		}
		r := parseReference(w.outputs[parts[1]][parts[2]])
		o := w.find(images, r)
		if o == nil || !slices.Contains(o.tags, r.tag) {
			w.problem(line+1, strings.TrimSpace(w.lines[line]), "the output "+parts[2]+" is not an image that is pushed")
			return ref
		}
		if old, ok := deployed[o]; ok && old != r.tag {
			w.problem(line+1, strings.TrimSpace(w.lines[line]),
				"two tags of one image are used, and the action has the first one as its output")
		}
		deployed[o] = r.tag
		return "fromJSON(steps." + id + ".outputs.images)" + property(o.containers[0]) + ".image"
	}
	for i, l := range w.lines {
		if !slices.ContainsFunc(w.steps, func(s *step) bool { return s.gone && i >= s.from && i < s.to }) {
			w.lines[i] = expression.ReplaceAllStringFunc(l, func(m string) string {
				return outputOfStep.ReplaceAllStringFunc(m, func(ref string) string { return output(i, ref) })
			})
		}
	}
	for o, tag := range deployed {
		if o.tags[0] != tag {
			w.problem(at.from+1, at.name,
				"the tag "+out(tag)+" is used later, and is not the first one of its image: push it first")
		}
	}
	return used
}

// actionStep is the step that runs ecsbuild in the place of one that is gone; it has no ID
// where that is "".
func (w *workflow) actionStep(at *step, id, config string) (out []string) {
	pad := strings.Repeat(" ", at.dash)
	begin := pad + "- "
	line := func(text string) {
		out = append(out, begin+text)
		begin = pad + "  "
	}
	if at.name != "" {
		line("name: " + w.nameLine(at))
	}
	if id != "" {
		line("id: " + id)
	}
	line("uses: " + action)
	if limit := scalar(at.keys["timeout-minutes"].value); limit != "" {
		line("timeout-minutes: " + limit)
	}
	env := w.credentials(pad)
	for _, name := range slices.Sorted(maps.Keys(w.expressions)) {
		if strings.Contains(config, "${"+name+"}") || strings.Contains(config, "${"+name+":") {
			value := "${{ " + w.expressions[name] + " }}"
			if !plainExpression.MatchString(value) {
				value = quote(value)
			}
			env = append(env, fmt.Sprintf("%s    %s: %s", pad, name, value))
		}
	}
	if len(env) > 0 {
		line("env:")
		out = append(out, env...)
	}
	return out
}

// credentials are the variables of AWS that the steps have which are gone.
func (w *workflow) credentials(pad string) (out []string) {
	seen := map[string]string{}
	for _, s := range w.steps {
		env := entries(s.keys["env"].value)
		for _, name := range slices.Sorted(maps.Keys(env)) {
			value := scalar(env[name].value)
			if old, ok := seen[name]; !s.gone || !strings.HasPrefix(name, "AWS_") || ok && old == value {
				continue
			} else if ok {
				w.problem(env[name].line, name, "two of the steps that build and push have different values for it")
			}
			seen[name] = value
			out = append(out, fmt.Sprintf("%s    %s: %s", pad, name, quote(value)))
		}
	}
	return out
}

var plainExpression = regexp.MustCompile(`^\$\{\{ [A-Za-z0-9_.-]+ \}\}$`)

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

func property(name string) string {
	if identifier.MatchString(name) {
		return "." + name
	}
	return "['" + name + "']"
}

// nameLine is the name of a step as it stands there.
func (w *workflow) nameLine(s *step) string {
	l := w.lines[s.keys["name"].line-1]
	_, text, _ := strings.Cut(l, "name:")
	return strings.TrimSpace(text)
}

// loginIsIdle says whether nothing that stays needs the login to ECR.
func (w *workflow) loginIsIdle(login *step) bool {
	var lines []string
	for i, l := range w.lines {
		if !slices.ContainsFunc(w.steps, func(s *step) bool { return (s.gone || s == login) && i >= s.from && i < s.to }) {
			lines = append(lines, l)
		}
	}
	for _, s := range w.steps {
		lines = append(append(lines, w.ownStep(s, s.before)...), w.ownStep(s, s.after)...)
	}
	for _, l := range lines {
		if strings.Contains(l, "docker ") || strings.Contains(l, "docker/") || login.id != "" &&
			strings.Contains(l, "steps."+login.id+".") {
			return false
		}
	}
	return true
}
