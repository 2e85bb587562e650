package buildspec

import (
	"regexp"
	"slices"
	"strings"
)

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
				c.problem(b.at, "its Dockerfile begins with an image that a variable names, "+
					"which may be one of another docker build: "+used.name)
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
		if name == r || isECR && ok && name.tag == r.tag && d.repository == own.repository &&
			(d.account == own.account || d.account == "" || own.account == "") {
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
	return slices.ContainsFunc(append(slices.Clone(b.args), b.texts...),
		func(p pair) bool { return parseReference(p.value) == r }) ||
		slices.ContainsFunc(b.lists["additional_contexts"], func(v string) bool { return strings.HasSuffix(v, r.String()) })
}

// usesImage finds the images that a Dockerfile names in FROM, COPY --from and RUN --mount.
var usesImage = regexp.MustCompile(
	`(?mi)^\s*FROM\s+(?:--platform=\S+\s+)?(\S+)|--from=(\S+)|--mount=\S*\bfrom=([^,\s]+)`)

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
