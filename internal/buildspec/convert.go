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
		functions: map[string]*syntax.Stmt{}, calling: map[string]bool{}}
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
	out := &Conversion{Buildspec: doc.edit(c), Config: config, Notes: c.notes}
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
	if c.at.folder != sourceFolder || c.lost {
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
	c.at = c.commands[last]
	for _, cmd := range c.commands[:last+1] { // an image is not there yet
		if len(cmd.images) > 0 && !cmd.replaced && !cmd.gate && slices.ContainsFunc(cmd.images, func(u use) bool { return len(u.build.pushed) > 0 && u.build.at.why == "" }) {
			c.problem(cmd, "it uses an image that ecsbuild builds after it")
		}
	}
	c.keepVariables()
	// What a variable of the environment is set to must not be taken for what it was.
	for _, m := range inTemplate.FindAllStringSubmatch(config, -1) {
		for _, cmd := range c.commands[:last+1] {
			if v := c.variables[m[1]]; cmd.assigns[m[1]] && v.known && !cmd.replaced && v.value != "${"+m[1]+"}" {
				c.problem(cmd, fmt.Sprintf("ecsbuild.yml needs the value that %s has before it", m[1]))
			}
		}
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
		used := c.usedBy(b)
		for j, other := range c.builds {
			if other == b {
				continue
			}
			for _, name := range other.names {
				switch {
				case b.mentions(name), used[name] && (j > i || len(other.pushed) == 0 || slices.Contains(b.flags, "pull")):
					c.problem(b.at, "it builds on an image of another docker build: "+out(name.String()))
				case used[name]:
					b.links = append(b.links, link{context: strings.TrimSuffix(name.String(), ":latest"), base: other})
				}
			}
		}
	}
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

// usedBy are the images that the Dockerfile of a build names.
func (c *converter) usedBy(b *build) map[reference]bool {
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
	out := map[reference]bool{}
	for _, m := range usesImage.FindAllStringSubmatch(string(data), -1) {
		out[parseReference(m[1]+m[2]+m[3])] = true
	}
	return out
}
