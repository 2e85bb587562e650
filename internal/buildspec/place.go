package buildspec

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// install gets ecsbuild where the build's image does not have it.
const install = `command -v ecsbuild >/dev/null || { curl -fsSL -o /usr/local/bin/ecsbuild "https://github.com/ecsbuild/ecsbuild/releases/latest/download/ecsbuild_linux_$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')" && chmod 755 /usr/local/bin/ecsbuild; }`

// run is ecsbuild at the place where it runs.
func (c *converter) run() []string {
	run := "ecsbuild run"
	if strings.HasPrefix(c.at.item.phase, "post_build") { // which comes after a failed build, too
		run = `[ "$CODEBUILD_BUILD_SUCCEEDING" != 0 ] && ecsbuild run`
	}
	folder := c.folder
	if next := slices.Index(c.commands, c.at) + 1; next < len(c.commands) { // where it runs itself may be before a cd
		folder = c.commands[next].folder
	}
	if folder != sourceFolder || c.lost {
		run += ` -C "$CODEBUILD_SRC_DIR"`
	}
	return []string{install, run}
}

var inTemplate = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)`)

// place decides where ecsbuild runs, and which of the commands that set variables stay.
func (c *converter) place(config string) {
	last := c.placeAfter(config)
	c.at = c.commands[last]
	c.checkStatus()
	c.checkNames(last)
	c.keepLogins()
	c.keepVariables()
	c.checkValues(config, last)
}

// placeAfter is the index of the command after which ecsbuild runs: where the last build stood,
// or after what came before the last push.
func (c *converter) placeAfter(config string) int {
	last, push := -1, -1
	for i, cmd := range c.commands {
		switch {
		case cmd.build != nil && cmd.build.at == cmd && cmd.replaced:
			last = i
			if cmd.pushes {
				push = i
			}
		case cmd.pushes && cmd.replaced:
			push = i
		}
	}
	for i, gate := range c.commands { // which finds in its environment what was set before it
		if !gate.gate {
			continue
		}
		reads := gate.reads()
		for j, cmd := range c.commands[:i] {
			for name := range cmd.assigns {
				if reads.finds(name) {
					last = max(last, j)
				}
			}
		}
	}
	for i, cmd := range c.commands[:push+1] {
		if i > last && cmd.stays() && cmd.why == "" && !cmd.harmless() {
			last = i
		}
	}
	for _, m := range inTemplate.FindAllStringSubmatch(strings.ReplaceAll(config, "env:", "${"), -1) {
		v, ok := c.variables[m[1]]
		switch {
		case ok && !v.known:
			v.at.export(m[1])
			last = max(last, slices.Index(c.commands, v.at))
		case !ok && c.source != nil && m[1] != "COMMIT":
			c.source.export(m[1]) // it may be from there
		}
	}
	for i, cmd := range c.commands {
		if len(cmd.exports) > 0 {
			last = max(last, i)
		}
	}
	for _, f := range c.files {
		if f.at.replaced {
			last = max(last, c.lastBefore(f))
		}
	}
	if push > last && c.deploysAfter(push) {
		last = push
	}
	return last
}

// lastBefore is the index of the last command before that of a definitions file which makes the
// file's folder, or another file in its place; -1 for none.
func (c *converter) lastBefore(f *file) int {
	last := -1
	for i, cmd := range c.commands[:slices.Index(c.commands, f.at)] {
		if cmd.stays() && cmd.why == "" && (strings.Contains(cmd.text, path.Base(f.path)) ||
			path.Dir(f.path) != "." && strings.Contains(cmd.text, path.Base(path.Dir(f.path)))) {
			last = i
		}
	}
	return last
}

// stays says whether a command stands in the new buildspec as it was.
func (cmd *command) stays() bool { return !cmd.replaced && !cmd.gate }

// checkStatus finds commands that ask how one has ended which does not stay before them.
func (c *converter) checkStatus() {
	for i, cmd := range c.commands {
		if i > 0 && !cmd.replaced && cmd.why == "" && strings.Contains(cmd.text, "$?") && !c.commands[i-1].stays() {
			c.problem(cmd, "it asks how the command before it has ended")
		}
	}
}

// checkNames finds commands that stay and use an image which is not there yet, or by a name
// that it does not have any more.
func (c *converter) checkNames(last int) {
	for _, cmd := range c.commands[last+1:] {
		for _, u := range cmd.images {
			text := cmd.item.text[u.from:u.to]
			r, err := c.template(text)
			if len(u.build.pushed) > 0 && cmd.stays() && err == nil && !slices.Contains(u.build.pushed, r) {
				c.problem(cmd, "it uses an image by a name that it does not have any more: "+text)
			}
		}
	}
	for _, cmd := range c.commands[:last+1] {
		if len(cmd.images) > 0 && cmd.stays() &&
			slices.ContainsFunc(cmd.images, func(u use) bool { return len(u.build.pushed) > 0 && u.build.at.why == "" }) {
			c.problem(cmd, "it uses an image that ecsbuild builds after it")
		}
	}
}

// checkValues finds commands that set a variable before ecsbuild runs, which needs the value of
// the environment.
func (c *converter) checkValues(config string, last int) {
	for _, m := range inTemplate.FindAllStringSubmatch(config, -1) {
		for _, cmd := range c.commands[:last+1] {
			if v := c.variables[m[1]]; cmd.assigns[m[1]] && v.known && !cmd.replaced &&
				!strings.HasPrefix(v.value, "${"+m[1]+":-") && v.value != "${"+m[1]+"}" {
				c.problem(cmd, fmt.Sprintf("it sets %s again, of which ecsbuild.yml needs the value before it", m[1]))
			}
		}
	}
	for _, b := range c.builds { // --build-arg NAME, of the environment as it was
		for _, p := range b.args {
			for i, cmd := range c.commands[:last+1] {
				if p.fromEnv && cmd.assigns[p.key] && i > slices.Index(c.commands, b.at) {
					c.problem(cmd, fmt.Sprintf("it sets %s, of which ecsbuild.yml needs the value before it", p.key))
				}
			}
		}
	}
}

// deploysAfter says whether something is done in the phase of the last push, after it: where
// ecsbuild fails in an earlier phase, CodeBuild runs the later one all the same.
func (c *converter) deploysAfter(push int) bool {
	phase := c.commands[push].item.phase
	for _, cmd := range c.commands[push+1:] {
		if cmd.item.phase == phase && cmd.stays() && !cmd.harmless() {
			return true
		}
	}
	return false
}

// template is what a word in the text of a command stands for.
func (c *converter) template(text string) (reference, error) {
	var out reference
	var err error
	f, perr := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader("x "+text), "")
	if perr != nil || len(f.Stmts) != 1 {
		return out, &unknownError{text + " is not understood"}
	}
	words, err := c.words(f.Stmts[0])
	if err == nil && len(words) == 2 {
		out = parseReference(words[1])
	}
	return out, err
}

// needsLogin finds commands that docker's login to a registry is for.
var needsLogin = regexp.MustCompile(
	`\b(docker\s+(\S+\s+)*?(run|pull|push|manifest|create|imagetools|compose|build)|docker-compose|helm|skopeo|crane|cosign|oras|trivy)\b`)

// keepLogins keeps the logins where something stays that they may be for.
func (c *converter) keepLogins() {
	for _, cmd := range c.commands {
		if cmd.replaced || cmd.login || cmd.gate || !needsLogin.MatchString(cmd.text) {
			continue
		}
		for _, login := range c.commands {
			if login.login {
				login.replaced = false
			}
		}
		return
	}
}

func isFunction(cmd *command) bool {
	if cmd.stmt == nil {
		return false
	}
	_, ok := cmd.stmt.Cmd.(*syntax.FuncDecl)
	return ok
}
