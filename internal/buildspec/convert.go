// Package buildspec moves a buildspec of shell lines over to ecsbuild. It follows the
// commands as the shell would, without running any: what they set variables to, the folder
// where they run, what docker builds, tags and pushes, and what they write into definitions
// files. What ecsbuild does comes out of the buildspec and into ecsbuild.yml; every other
// command stays in its place.
//
// The shell is parsed by mvdan.cc/sh. A value that only a running command knows goes into
// the environment, where ecsbuild.yml takes it from. What cannot be translated is told with
// its line, and stands in the new buildspec as a comment.
package buildspec

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// A Conversion is what becomes of a buildspec.
type Conversion struct {
	Buildspec string    // the new text of the file
	Config    string    // of ecsbuild.yml, "" where no image could be moved over
	Problems  []Problem // what could not be translated, in the order of the lines
	Notes     []string  // what to know of the rest
}

// A Problem is a command that could not be translated.
type Problem struct {
	Line    int
	Command string
	Why     string
}

// A NothingError says that a file has no docker build or push that could be moved over.
type NothingError struct{ Why string }

func (e *NothingError) Error() string { return e.Why }

// Convert reads a buildspec, or a CloudFormation template with one in it, in YAML. read returns
// a file of the sources, by its path: a Compose file. Its error is a *NothingError, or says
// why the file cannot be read.
func Convert(data []byte, read func(path string) ([]byte, error)) (*Conversion, error) {
	doc, err := parse(data)
	if err != nil {
		return nil, err
	}
	c := &converter{shell: newShell(), local: map[string]*build{}, services: map[string]*build{}, exports: map[string]bool{}, read: read,
		functions: map[string]*syntax.Stmt{}, calling: map[string]bool{}, times: map[string]int{}}
	if setsCommit.Match(data) {
		c.commit = "${CODEBUILD_RESOLVED_SOURCE_VERSION}"
	}
	for _, name := range append(doc.exported, doc.environment...) { // commands see what these are set to
		c.exports[name] = true
	}
	for _, it := range doc.items {
		c.follow(it)
	}
	c.checkOrder()
	config := c.settle()
	if config == "" && len(c.failed()) == 0 {
		return nil, &NothingError{"it builds and pushes no image that ecsbuild could"}
	}
	if config != "" {
		c.notes = append(c.notes, "the new buildspec takes the latest release of ecsbuild: buildspec.example.yml of its repository shows how to pin one by its checksum")
	}
	edited := doc.edit(c)
	out := &Conversion{Buildspec: edited, Config: config, Notes: c.notes}
	if _, err := parse([]byte(out.Buildspec)); err != nil && config != "" {
		return nil, &NothingError{"the form of its YAML is not one that can be changed line by line"}
	}
	for _, cmd := range c.failed() {
		out.Problems = append(out.Problems, Problem{cmd.line, shorten(cmd.text), cmd.why})
	}
	return out, nil
}

// setsCommit finds a variable of a file that has the name which ecsbuild has for the commit.
var setsCommit = regexp.MustCompile(`\bCOMMIT\s*[=:]`)

// settle writes ecsbuild.yml and finds the place of ecsbuild, again and again until nothing
// more turns out not to be translated. The result is "" for no image.
func (c *converter) settle() (config string) {
	notes := c.notes
	for {
		failed := len(c.failed())
		c.notes = slices.Clone(notes)
		for _, cmd := range c.commands {
			cmd.replaced, cmd.gate, cmd.exports = cmd.login && (!cmd.public || c.isPublic()), false, nil
			if cmd.build != nil && cmd.build.at.why != "" && cmd.build.at != cmd {
				c.problem(cmd, "its docker build is not translated")
			}
		}
		images := c.images()
		if len(images) == 0 {
			c.at = nil
			return ""
		}
		if c.names != nil {
			c.names(images)
		}
		config = c.config(images)
		c.place(config)
		if len(c.failed()) == failed {
			return config
		}
	}
}

// isPublic says whether images go to ECR Public, as far as they say; else its account is for
// base images, and docker's own login is used for those.
func (c *converter) isPublic() bool {
	return slices.ContainsFunc(c.builds, func(b *build) bool {
		return slices.ContainsFunc(b.pushed, func(r reference) bool { return strings.HasPrefix(r.name, publicRegistry+"/") })
	})
}

// isSet says whether the buildspec sets a variable to something that is not known.
func (c *converter) isSet(variable string) bool {
	v, ok := c.variables[variable]
	return ok && !v.known
}

// failed are the commands that could not be translated.
func (c *converter) failed() (out []*command) {
	for _, cmd := range c.commands {
		if cmd.why != "" {
			out = append(out, cmd)
		}
	}
	return out
}

// An outcome is an image as ecsbuild.yml has it: a build, and one repository that it goes to.
type outcome struct {
	*build
	destination
	tags       []string
	containers []string
	deployed   string // the tag that a definitions file names, "" for none
}

// images are what is pushed, in the order of the builds. Their commands are replaced.
func (c *converter) images() (out []*outcome) {
	for _, b := range c.builds {
		if b.at.why != "" || len(b.pushed) == 0 {
			continue
		}
		for _, r := range b.pushed {
			d, _ := r.destination(c.isSet)
			i := slices.IndexFunc(out, func(o *outcome) bool { return o.build == b && o.destination == d })
			if i < 0 {
				out = append(out, &outcome{build: b, destination: d})
				i = len(out) - 1
			}
			if !slices.Contains(out[i].tags, r.tag) {
				out[i].tags = append(out[i].tags, r.tag)
			}
		}
	}
	for _, cmd := range c.commands {
		if cmd.build != nil && len(cmd.build.pushed) > 0 && cmd.build.at.why == "" {
			cmd.replaced = true
		}
	}
	for _, p := range c.pulls { // for the cache of an image that is built here
		o := c.find(out, p.name)
		if o != nil && !slices.Contains(c.tagged, p.name) && (slices.Contains(o.tags, p.name.tag) || c.isCache(p.name)) {
			p.at.replaced = true
		}
	}
	for _, o := range out {
		if len(o.lists["cache_from"]) > 0 {
			c.notes = append(c.notes, "cache_from is kept as it was. cache: registry keeps the steps of all stages, and needs no pull beforehand: see docs/speed.md")
			break
		}
	}
	return out
}

// isCache says whether a build reads an image as its cache.
func (c *converter) isCache(r reference) bool {
	return slices.ContainsFunc(c.builds, func(b *build) bool {
		return slices.ContainsFunc(b.lists["cache_from"], func(v string) bool { return strings.Contains(v, r.name) })
	})
}

// find is the image that has a name in a registry.
func (c *converter) find(images []*outcome, r reference) *outcome {
	for _, o := range images {
		for _, p := range o.pushed {
			d, _ := p.destination(c.isSet)
			if p.name == r.name && d == o.destination {
				return o
			}
		}
	}
	return nil
}

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

// place decides where ecsbuild runs, and which of the commands that set variables stay. It
// runs where the last build stood, or after what came before the last push.
func (c *converter) place(config string) {
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
	for i, cmd := range c.commands[:push+1] {
		if i > last && !cmd.replaced && !cmd.gate && cmd.why == "" && !cmd.harmless() {
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
	for _, f := range c.files { // what makes the file's folder, or another file in its place
		if !f.at.replaced {
			continue
		}
		for i, cmd := range c.commands {
			if cmd == f.at {
				break
			}
			if i > last && !cmd.replaced && !cmd.gate && cmd.why == "" && (strings.Contains(cmd.text, path.Base(f.path)) ||
				path.Dir(f.path) != "." && strings.Contains(cmd.text, path.Base(path.Dir(f.path)))) {
				last = i
			}
		}
	}
	for i, cmd := range c.commands {
		if i > 0 && !cmd.replaced && cmd.why == "" && strings.Contains(cmd.text, "$?") && (c.commands[i-1].replaced || c.commands[i-1].gate) {
			c.problem(cmd, "it asks how the command before it has ended")
		}
	}
	if push > last && c.deploysAfter(push) {
		last = push
	}
	c.at = c.commands[last]
	for _, cmd := range c.commands[last+1:] {
		for _, u := range cmd.images {
			text := cmd.item.text[u.from:u.to]
			if r, err := c.template(text); len(u.build.pushed) > 0 && !cmd.replaced && !cmd.gate && err == nil && !slices.Contains(u.build.pushed, r) {
				c.problem(cmd, "it uses an image by a name that it does not have any more: "+text)
			}
		}
	}
	for _, cmd := range c.commands[:last+1] { // an image is not there yet
		if len(cmd.images) > 0 && !cmd.replaced && !cmd.gate && slices.ContainsFunc(cmd.images, func(u use) bool { return len(u.build.pushed) > 0 && u.build.at.why == "" }) {
			c.problem(cmd, "it uses an image that ecsbuild builds after it")
		}
	}
	c.keepLogins()
	c.keepVariables()
	// What a variable of the environment is set to must not be taken for what it was.
	for _, m := range inTemplate.FindAllStringSubmatch(config, -1) {
		for _, cmd := range c.commands[:last+1] {
			if v := c.variables[m[1]]; cmd.assigns[m[1]] && v.known && !cmd.replaced && !strings.HasPrefix(v.value, "${"+m[1]+":-") && v.value != "${"+m[1]+"}" {
				c.problem(cmd, fmt.Sprintf("ecsbuild.yml needs the value that %s has before it", m[1]))
			}
		}
	}
}

// deploysAfter says whether something is done in the phase of the last push, after it: where
// ecsbuild fails in an earlier phase, CodeBuild runs the later one all the same.
func (c *converter) deploysAfter(push int) bool {
	phase := c.commands[push].item.phase
	for _, cmd := range c.commands[push+1:] {
		if cmd.item.phase == phase && !cmd.replaced && !cmd.gate && !cmd.harmless() {
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
var needsLogin = regexp.MustCompile(`\b(docker\s+(\S+\s+)*?(run|pull|push|manifest|create|imagetools|compose|build)|docker-compose|helm|skopeo|crane|cosign|oras|trivy)\b`)

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

// keepVariables leaves out what sets a variable that nothing uses any more.
func (c *converter) keepVariables() {
	used, translated := map[string]bool{}, map[string]bool{}
	for name := range c.exports {
		used[name] = true
	}
	for _, cmd := range c.commands {
		if _, ok := funcOf(cmd); ok { // it is used where it is called
			for name := range cmd.uses {
				used[name] = true
			}
		}
		if cmd.replaced || cmd.sets != "" { // what they use may be for them alone
			for name := range cmd.uses {
				translated[name] = true
			}
		}
	}
	for i := len(c.commands) - 1; i >= 0; i-- {
		cmd := c.commands[i]
		if cmd.replaced || cmd.gate {
			continue
		}
		if cmd.sets != "" && !cmd.exported && !c.allExport && len(cmd.exports) == 0 && !used[cmd.sets] && translated[cmd.sets] {
			cmd.replaced = true
			continue
		}
		for name := range cmd.uses {
			used[name] = true
		}
		if cmd.sets == "" {
			for _, name := range cmd.exports { // which it may leave as it was
				used[name] = true
			}
		}
	}
}

func funcOf(cmd *command) (*syntax.FuncDecl, bool) {
	if cmd.stmt == nil {
		return nil, false
	}
	f, ok := cmd.stmt.Cmd.(*syntax.FuncDecl)
	return f, ok
}

// checkOrder finds what cannot be done all at once: a build on an image of another build, and
// commands between two builds, which may be for one of them alone.
func (c *converter) checkOrder() {
	first, last := -1, -1
	for i, cmd := range c.commands { // pushes
		if !cmd.pushes {
			continue
		}
		if last = i; first < 0 {
			first = i
		}
	}
	for _, cmd := range c.commands[max(0, first):max(0, last)] {
		if cmd.build == nil && !cmd.login && cmd.why == "" && !cmd.harmless() && !c.isPull(cmd) && !c.writes(cmd) {
			c.problem(cmd, "it runs between pushes, and ecsbuild moves all tags at once")
		}
	}
	first, last = -1, -1
	for i, cmd := range c.commands {
		if cmd.build == nil || cmd.build.at != cmd || len(cmd.build.pushed) == 0 {
			continue
		}
		if last = i; first < 0 {
			first = i
		}
	}
	if first < 0 {
		return
	}
	for _, cmd := range c.commands[first:last] {
		if cmd.build == nil && !cmd.login && cmd.why == "" && !cmd.harmless() && !c.isPull(cmd) && !c.writes(cmd) {
			c.problem(cmd, "it runs between builds, and ecsbuild does all of them at once")
		}
	}
	for i, b := range c.builds {
		for _, used := range c.usedBy(b) {
			if strings.Contains(used.String(), "$") && len(c.builds) > 1 {
				c.problem(b.at, "its Dockerfile begins with an image that a variable names, which may be one of another docker build: "+used.name)
			}
			for j, other := range c.builds {
				switch {
				case other == b || !c.isCalled(other, used):
				case j > i || len(other.pushed) == 0 || slices.Contains(b.flags, "pull"):
					c.problem(b.at, "it builds on an image of another docker build: "+out(used.String()))
				default:
					b.links = append(b.links, link{context: strings.TrimSuffix(used.String(), ":latest"), base: other})
				}
			}
		}
		for _, other := range c.builds {
			for _, name := range other.names {
				if other != b && b.mentions(name) {
					c.problem(b.at, "it builds on an image of another docker build: "+out(name.String()))
				}
			}
		}
	}
}

// isCalled says whether a build has a name, also where the name spells out a registry for which
// the build has variables.
func (c *converter) isCalled(b *build, r reference) bool {
	own, isECR := r.destination(c.isSet)
	for _, name := range b.names {
		d, ok := name.destination(c.isSet)
		if name == r || isECR && ok && name.tag == r.tag && d.repository == own.repository && (d.account == own.account || d.account == "" || own.account == "") {
			return true
		}
	}
	return false
}

// writes says whether a command writes a definitions file.
func (c *converter) writes(cmd *command) bool {
	return slices.ContainsFunc(c.files, func(f *file) bool { return f.at == cmd })
}

func (c *converter) isPull(cmd *command) bool {
	return slices.ContainsFunc(c.pulls, func(p pull) bool { return p.at == cmd })
}

// mentions says whether a build is told the name of another image.
func (b *build) mentions(r reference) bool {
	return slices.ContainsFunc(append(slices.Clone(b.args), b.texts...), func(p pair) bool { return parseReference(p.value) == r }) ||
		slices.ContainsFunc(b.lists["additional_contexts"], func(v string) bool { return strings.HasSuffix(v, r.String()) })
}

// usesImage finds the images that a Dockerfile names in FROM, COPY --from and RUN --mount.
var usesImage = regexp.MustCompile(`(?mi)^\s*FROM\s+(?:--platform=\S+\s+)?(\S+)|--from=(\S+)|--mount=\S*\bfrom=([^,\s]+)`)

var (
	declaresArg = regexp.MustCompile(`(?mi)^\s*ARG\s+([A-Za-z_][A-Za-z0-9_]*)(?:="?([^"\s]*)"?)?`)
	usesArg     = regexp.MustCompile(`\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})`)
)

// usedBy are the images that the Dockerfile of a build names, as far as its arguments say.
func (c *converter) usedBy(b *build) (out []reference) {
	if isURL(b.context) {
		return nil
	}
	file := b.dockerfile
	if file == "" {
		file = clean(b.context + "/Dockerfile")
	}
	data, err := c.read(relative(file))
	if err != nil {
		return nil
	}
	args := map[string]string{}
	for _, m := range declaresArg.FindAllStringSubmatch(string(data), -1) {
		args[m[1]] = m[2]
	}
	for _, p := range b.args {
		if _, ok := args[p.key]; ok && !p.fromEnv {
			args[p.key] = p.value
		}
	}
	for _, m := range usesImage.FindAllStringSubmatch(string(data), -1) {
		name := usesArg.ReplaceAllStringFunc(m[1]+m[2]+m[3], func(v string) string {
			m := usesArg.FindStringSubmatch(v)
			if value := args[m[1]+m[2]]; value != "" {
				return value
			}
			return v
		})
		if r := parseReference(name); !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}
