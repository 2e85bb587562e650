package buildspec

import (
	"regexp"
	"strconv"
	"strings"
)

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
	return mark.ReplaceAllStringFunc(text,
		func(m string) string { return w.inserted[mark.FindStringSubmatch(m)[1]].source })
}
