package buildspec

import (
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
		if cmd.replaced || cmd.why != "" || first < 0 || o == nil && !cmd.acts() {
			continue
		}
		text, why := c.gateText(cmd, images)
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

// acts says whether a command does more than to tell or to set something.
func (cmd *command) acts() bool {
	if cmd.sets != "" || cmd.exported || cmd.stmt == nil {
		return false
	}
	call, ok := cmd.stmt.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) == 0 {
		return !ok
	}
	switch call.Args[0].Lit() {
	case "echo", "printf", "cd", "pwd", "ls":
		return false
	}
	return true
}

// gateText is a command as a gate: with the images by their variables, in the folder where it
// ran. Its other variables come from the environment.
func (c *converter) gateText(cmd *command, images []*outcome) (text, why string) {
	text = cmd.text
	used := map[string]bool{}
	if call, ok := cmd.stmt.Cmd.(*syntax.CallExpr); ok {
		base := cmd.stmt.Pos().Offset()
		for i := len(call.Args) - 1; i >= 0; i-- {
			w := call.Args[i]
			if used, ok := cmd.images[i]; ok {
				j := slices.IndexFunc(images, func(o *outcome) bool { return o.build == used })
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
				text = text[:w.Pos().Offset()-base] + `"$` + v + `"` + text[w.End().Offset()-base:]
				continue
			}
			syntax.Walk(w, func(n syntax.Node) bool {
				if p, ok := n.(*syntax.ParamExp); ok && p.Param != nil {
					used[p.Param.Value] = true
				}
				return true
			})
		}
	} else {
		used = cmd.uses
	}
	for name := range used {
		if v, ok := c.variables[name]; ok {
			v.at.export(name)
		}
	}
	if cmd.folder != sourceFolder {
		text = "cd " + relative(cmd.folder) + " && " + text
	}
	return strings.TrimSpace(text), ""
}
