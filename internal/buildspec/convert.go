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
	c := newConverter(read)
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

// setsCommit finds a variable that has the name which ecsbuild has for the commit: of the file, or
// of the project's environment.
var setsCommit = regexp.MustCompile(`\bCOMMIT\s*[=:]|\$\{?COMMIT\b`)

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
		return slices.ContainsFunc(b.pushed, func(r reference) bool { return isPublic(r.name) })
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
