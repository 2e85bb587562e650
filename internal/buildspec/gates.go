package buildspec

import (
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// gates are the commands between build and push that use an image, such as tests and scans,
// and those that follow them there. One that fails keeps the image from being pushed, as
// before.
func (c *converter) gates(images []*outcome) (out []string) {
	first := -1
	last := -1 // the last push
	for i, cmd := range c.commands {
		if cmd.pushes && cmd.replaced {
			last = i
		}
	}
	for i, cmd := range c.commands[:last+1] {
		o := usedBy(images, cmd)
		if o != nil && first < 0 {
			first = i
		}
		if cmd.replaced || cmd.why != "" || first < 0 || o == nil && cmd.harmless() {
			continue
		}
		if cmd.stmt == nil {
			c.problem(cmd, "it is not understood as a command of the shell, and runs before a push")
			continue
		}
		if sources(cmd) {
			continue
		}
		text, why := c.gateText(cmd, images)
		if len(cmd.assigns) > 0 {
			why = "it sets a variable from an image that ecsbuild builds after it"
		}
		if why != "" {
			c.problem(cmd, why)
			continue
		}
		cmd.gate = true
		out = append(out, text)
	}
	return out
}

// usedBy is the image that a command uses, which neither builds nor pushes it.
func usedBy(images []*outcome, cmd *command) *outcome {
	for _, o := range images {
		if slices.Contains(o.users, cmd) {
			return o
		}
	}
	return nil
}

// harmless says whether a command only tells or sets something, so that its place among the
// others does not matter.
func (cmd *command) harmless() bool {
	if cmd.sets != "" || cmd.exported || cmd.output {
		return true
	}
	if cmd.stmt == nil || len(cmd.stmt.Redirs) > 0 {
		return false
	}
	call, ok := cmd.stmt.Cmd.(*syntax.CallExpr)
	if !ok {
		return leaves.FindString(cmd.text) == "" && len(cmd.assigns) > 0 && !strings.Contains(cmd.text, "\n") // if …; then TAG=…; fi
	}
	if len(call.Args) == 0 {
		return true
	}
	switch call.Args[0].Lit() {
	case "echo", "printf", "cd", "pushd", "popd", "pwd", "ls", "env", "date", "uname", "id", "whoami", "true", ":", "set", "cat":
		return true
	}
	return tells.MatchString(cmd.text)
}

// sources says whether a command reads variables from a file.
func sources(cmd *command) bool {
	call, ok := cmd.stmt.Cmd.(*syntax.CallExpr)
	return ok && len(call.Args) > 0 && slices.Contains([]string{".", "source"}, call.Args[0].Lit())
}

// tells are commands that change nothing.
var tells = regexp.MustCompile(`^(aws --version|docker (images|image ls|version|info|ps|--version)\b.*|docker-compose --version|node -v|npm -v)$`)

// gateText is a command as a gate: with the images by their variables, in the folder where it
// ran. Its other variables come from the environment.
func (c *converter) gateText(cmd *command, images []*outcome) (text, why string) {
	if cmd.lost {
		return "", "the folder where it runs is not known"
	}
	text = cmd.text
	base := cmd.stmt.Pos().Offset()
	for i := len(cmd.images) - 1; i >= 0; i-- {
		u := cmd.images[i]
		j := slices.IndexFunc(images, func(o *outcome) bool { return o.build == u.build })
		if j < 0 {
			return "", "it uses an image that is not pushed"
		}
		o := images[j]
		v := "ECSBUILD_IMAGE"
		switch {
		case len(images) == 1:
		case len(o.containers) > 0 && isFixed(o.containers[0]):
			v += "_" + plan.Variable(o.containers[0])
		case len(o.containers) == 0 && isFixed(o.repository):
			v += "_" + plan.Variable(o.repository)
		default:
			return "", "the name of its image is known only when it runs"
		}
		text = text[:u.from-base] + `"$` + v + `"` + text[u.to-base:]
	}
	syntax.Walk(cmd.stmt, func(n syntax.Node) bool {
		if w, ok := n.(*syntax.Word); ok && slices.ContainsFunc(cmd.images, func(u use) bool { return u.from == w.Pos().Offset() }) {
			return false
		}
		if p, ok := n.(*syntax.ParamExp); ok && p.Param != nil {
			if v, ok := c.variables[p.Param.Value]; ok {
				v.at.export(p.Param.Value)
			}
		}
		return true
	})
	if cmd.folder != sourceFolder {
		text = "cd " + relative(cmd.folder) + " && " + text
	}
	return strings.TrimSpace(text), ""
}
