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
	"regexp"
	"slices"
	"strings"
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
	c := &converter{shell: newShell(), local: map[string]*build{}, services: map[string]*build{}, exports: map[string]bool{}, read: read}
	for _, name := range doc.exported {
		c.exports[name] = true
	}
	for _, it := range doc.items {
		c.follow(it)
	}
	images := c.images()
	if len(images) == 0 && len(c.failed()) == 0 {
		return nil, &NothingError{"it builds and pushes no image that ecsbuild could"}
	}
	config := ""
	if len(images) > 0 {
		config = c.config(images)
	}
	c.place(config)
	if len(images) > 0 {
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
			d, _ := r.destination()
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
		if o := find(out, p.name); o != nil {
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

// find is the image that has a name in a registry.
func find(images []*outcome, r reference) *outcome {
	for _, o := range images {
		for _, p := range o.pushed {
			d, _ := p.destination()
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
	if c.at.folder != sourceFolder || c.lost {
		run = `ecsbuild run -C "$CODEBUILD_SRC_DIR"`
	}
	return []string{install, run}
}

var inTemplate = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)`)

// place decides where ecsbuild runs, which commands become gates, and which of those that
// set variables stay.
func (c *converter) place(config string) {
	last := -1 // the last command that must come before it
	for i, cmd := range c.commands {
		if cmd.build != nil && cmd.build.at == cmd && cmd.replaced {
			last = i
		}
	}
	if last < 0 {
		c.at = nil
		return
	}
	for _, m := range inTemplate.FindAllStringSubmatch(strings.ReplaceAll(config, "env:", "${"), -1) {
		v, ok := c.variables[m[1]]
		if !ok || v.known {
			continue
		}
		v.at.export(m[1])
	}
	for i, cmd := range c.commands {
		if len(cmd.exports) > 0 {
			last = max(last, i)
		}
	}
	c.at = c.commands[last]
	// A variable stays where something that stays uses it.
	used := map[string]bool{}
	for name := range c.exports {
		used[name] = true
	}
	for i := len(c.commands) - 1; i >= 0; i-- {
		cmd := c.commands[i]
		if cmd.replaced || cmd.gate {
			continue
		}
		if cmd.sets != "" && !cmd.exported && len(cmd.exports) == 0 && !used[cmd.sets] {
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
