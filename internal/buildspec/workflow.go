package buildspec

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"mvdan.cc/sh/v3/syntax"
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
	f, err := parser.ParseBytes(data, 0)
	if err != nil || len(f.Docs) == 0 || f.Docs[0].Body == nil {
		return false
	}
	root := entries(f.Docs[0].Body)
	return root["jobs"].value != nil && root["phases"].value == nil
}

// PushesImages says whether a file is a workflow with a job that builds images and pushes them.
func PushesImages(data []byte) bool {
	f, err := parser.ParseBytes(data, 0)
	if err != nil || len(f.Docs) == 0 || f.Docs[0].Body == nil {
		return false
	}
	return len(pushJobs(entries(entries(f.Docs[0].Body)["jobs"].value))) > 0
}

// pushJobs are the names of the jobs that build images and push them.
func pushJobs(jobs map[string]entryNode) (found []string) {
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		if steps, ok := entries(jobs[name].value)["steps"].value.(*ast.SequenceNode); ok && slices.ContainsFunc(steps.Values, isPushStep) {
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
	w := &workflow{newline: "\n", env: map[string]string{}, expressions: map[string]string{}, outputs: map[string]map[string]string{},
		digests: map[string]*build{}, logins: map[string]string{}}
	w.converter = &converter{shell: newShell(), local: map[string]*build{}, services: map[string]*build{}, exports: map[string]bool{}, read: read,
		functions: map[string]*syntax.Stmt{}, calling: map[string]bool{}, times: map[string]int{},
		names: w.nameContainers}
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
	return strings.HasPrefix(scalar(keys["uses"].value), "docker/build-push-action@") || pushStep.MatchString(scalar(keys["run"].value))
}

var expression = regexp.MustCompile(`\$\{\{\s*(.*?)\s*\}\}`)

// template is a text of the workflow, outside of the shell.
func (w *workflow) template(text string) (string, error) {
	var err error
	out, at := "", 0
	for _, m := range expression.FindAllStringSubmatchIndex(text, -1) {
		value, e := w.expression(text[m[2]:m[3]])
		if e != nil {
			err = e
		}
		out += strings.ReplaceAll(text[at:m[0]], "$", "$$") + value
		at = m[1]
	}
	return out + strings.ReplaceAll(text[at:], "$", "$$"), err
}

var (
	fromEnv     = regexp.MustCompile(`^env\.([A-Za-z_][A-Za-z0-9_]*)$`)
	fromStep    = regexp.MustCompile(`^steps\.([A-Za-z0-9_-]+)\.outputs\.([A-Za-z0-9_-]+)$`)
	fromContext = regexp.MustCompile(`^(?:secrets|vars|inputs|github\.event\.inputs)\.([A-Za-z_][A-Za-z0-9_-]*)$`)
	fromGitHub  = regexp.MustCompile(`^github\.(ref_name|ref|run_number|run_id|run_attempt|actor|repository)$`)
	noVariable  = regexp.MustCompile(`[^A-Z0-9]+`)
)

// expression is what stands for a value of GitHub's: what is known of it, or else a variable
// that the action is given.
func (w *workflow) expression(e string) (string, error) {
	switch {
	case e == "github.sha":
		return w.commit, nil
	case e == "github.workspace":
		return sourceFolder, nil
	}
	if m := fromEnv.FindStringSubmatch(e); m != nil {
		if v, ok := w.env[m[1]]; ok {
			return v, nil
		}
		return "${" + m[1] + "}", nil
	}
	if m := fromStep.FindStringSubmatch(e); m != nil {
		if registry, ok := w.logins[m[1]]; ok && m[2] == "registry" {
			return registry, nil
		}
		if v, ok := w.outputs[m[1]][m[2]]; ok {
			return v, nil
		}
		for _, s := range w.steps {
			if s.id == m[1] && (s.gone || strings.HasPrefix(s.uses, "docker/metadata-action@")) {
				return "", &unknownError{"${{ " + e + " }} is not understood"}
			}
		}
	}
	if m := fromGitHub.FindStringSubmatch(e); m != nil {
		return "${GITHUB_" + strings.ToUpper(m[1]) + "}", nil
	}
	name := w.hint
	if name == "" {
		name = strings.TrimPrefix(e, "github.") // GITHUB_… is GitHub's own
	}
	if m := fromContext.FindStringSubmatch(e); m != nil {
		name = m[1]
	}
	name = strings.Trim(noVariable.ReplaceAllString(strings.ToUpper(name), "_"), "_")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "VALUE_" + name
	}
	for base, n := name, 2; ; n++ {
		_, taken := w.env[name]
		if old, ok := w.expressions[name]; ok && old == e || !ok && !taken {
			w.expressions[name] = e
			return "${" + name + "}", nil
		}
		name = base + "_" + strconv.Itoa(n)
	}
}

// withExpressions puts GitHub's expressions back where the shell's text has marks for them.
func (w *workflow) withExpressions(text string) string {
	return mark.ReplaceAllStringFunc(text, func(m string) string { return w.inserted[mark.FindStringSubmatch(m)[1]].source })
}

// follow goes through one step.
func (w *workflow) follow(s *step) {
	run := scalar(s.keys["run"].value)
	switch {
	case strings.HasPrefix(s.uses, "aws-actions/amazon-ecr-login@"):
		with := entries(s.keys["with"].value)
		s.login = true
		w.logins[s.id] = callerAccount + ".dkr.ecr." + callerRegion + ".amazonaws.com"
		if scalar(with["registry-type"].value) == "public" {
			w.logins[s.id] = publicRegistry
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
		if !slices.Contains([]string{"id", "name", "uses", "with", "run", "env", "shell", "working-directory", "timeout-minutes"}, key) {
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
	cmd := &command{item: &item{phase: "steps", line: s.from + 1}, line: s.from + 1, text: s.uses, uses: map[string]bool{}, assigns: map[string]bool{}}
	b := &build{at: cmd, lists: map[string][]string{}, context: sourceFolder}
	cmd.build, cmd.pushes, s.commands = b, true, []*command{cmd}
	c.commands, c.builds = append(c.commands, cmd), append(c.builds, b)
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
			w.problem(cmd.line, shorten(w.withExpressions(cmd.text)), "it is in a step that builds or pushes: give it one of its own")
		}
	}
	for i, s := range w.steps {
		if i > first && i < last && !s.gone && !s.login && w.usesImages(s) {
			w.problem(s.from+1, strings.TrimSpace(w.lines[s.from]), "it uses an image between its build and its push: make it a gate, see docs/configuration.md")
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
			w.problem(cmd.line, shorten(w.withExpressions(cmd.text)), "its value is known only when it runs: set it in an earlier step, by GITHUB_ENV")
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
		if o := w.find(images, ref); o != nil && err1 == nil && err2 == nil && isFixed(container) && slices.Contains(o.tags, ref.tag) && len(o.containers) == 0 {
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
			if s.id != "" {
				id = s.id
			}
		}
	}
	named := id
	if id == "" {
		id = "ecsbuild"
	}
	notes := w.notes
	images := w.images()
	w.nameContainers(images)
	w.notes = notes // which they have told before
	deployed := map[*outcome]string{}
	for i, l := range w.lines {
		if slices.ContainsFunc(w.steps, func(s *step) bool { return s.gone && i >= s.from && i < s.to }) {
			continue
		}
		w.lines[i] = expression.ReplaceAllStringFunc(l, func(m string) string {
			return regexp.MustCompile(`steps\.[A-Za-z0-9_-]+\.outputs\.[A-Za-z0-9_-]+`).ReplaceAllStringFunc(m, func(ref string) string {
				parts := fromStep.FindStringSubmatch(ref)
				if !slices.ContainsFunc(w.steps, func(s *step) bool { return s.gone && s.id == parts[1] }) {
					return ref
				}
				named = id
				if b := w.digests[parts[1]]; b != nil && parts[2] == "digest" {
					if o := slices.IndexFunc(images, func(o *outcome) bool { return o.build == b }); o >= 0 {
						return "fromJSON(steps." + id + ".outputs.digests)" + property(images[o].containers[0])
					}
				}
				r := parseReference(w.outputs[parts[1]][parts[2]])
				o := w.find(images, r)
				if o == nil || !slices.Contains(o.tags, r.tag) {
					w.problem(i+1, strings.TrimSpace(l), "the output "+parts[2]+" is not an image that is pushed")
					return ref
				}
				if old, ok := deployed[o]; ok && old != r.tag {
					w.problem(i+1, strings.TrimSpace(l), "two tags of one image are used, and the action has the first one as its output")
				}
				deployed[o] = r.tag
				return "fromJSON(steps." + id + ".outputs.images)" + property(o.containers[0]) + ".image"
			})
		})
	}
	for o, tag := range deployed {
		if o.tags[0] != tag {
			w.problem(at.from+1, at.name, "the tag "+out(tag)+" is used later, and is not the first one of its image: push it first")
		}
	}
	pad := strings.Repeat(" ", at.dash)
	begin := pad + "- "
	var own []string
	line := func(text string) {
		own = append(own, begin+text)
		begin = pad + "  "
	}
	if at.name != "" {
		line("name: " + w.nameLine(at))
	}
	if named != "" {
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
		own = append(own, env...)
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
					out = append(out, own...)
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
		if strings.Contains(l, "docker ") || strings.Contains(l, "docker/") || login.id != "" && strings.Contains(l, "steps."+login.id+".") {
			return false
		}
	}
	return true
}
