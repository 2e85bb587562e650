package buildspec

import (
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// gates are the commands between build and push that use an image, such as tests and scans,
// and all others there that do something: they run when the images are built, and one that
// fails keeps them from being pushed, as before.
func (c *converter) gates(images []*outcome) (out []string) {
	first := -1 // that uses an image, or follows the last build
	last := -1  // the last push
	for i, cmd := range c.commands {
		if cmd.build != nil && cmd.build.at == cmd && cmd.replaced {
			first = i
		}
		if cmd.pushes && cmd.replaced {
			last = i
		}
	}
	for i, cmd := range c.commands[:last+1] {
		if usedBy(images, cmd) != nil {
			first = min(first, i)
			break
		}
	}
	for i, cmd := range c.commands[:last+1] {
		o := usedBy(images, cmd)
		if i < first {
			continue
		}
		if cmd.replaced || cmd.why != "" || o == nil && (cmd.harmless() || c.clears(cmd)) {
			continue
		}
		if o == nil && len(cmd.assigns) > 0 && c.areUsed(cmd) {
			continue // it stays before ecsbuild, which needs what it sets
		}
		if cmd.stmt == nil {
			c.problem(cmd, "it is not understood as a command of the shell, and runs before a push")
			continue
		}
		if sources(cmd) || unsets(cmd) {
			continue
		}
		text, why := c.gateText(cmd, images)
		switch {
		case len(cmd.assigns) > 0 && c.areUsed(cmd):
			why = "it sets a variable from an image that ecsbuild builds after it"
		case why == "" && needsBash(cmd.stmt):
			why = "it needs bash, and gates run in sh"
		case why == "" && c.pipefail && strings.Contains(cmd.text, "|"):
			why = "it runs under set -o pipefail, and gates do not"
		}
		if why == "" {
			why = c.setAgain(i, last)
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

// setAgain says that a gate may find another value in its environment than it did where it stood.
func (c *converter) setAgain(gate, last int) (why string) {
	reads := c.commands[gate].reads()
	before := map[string]bool{}
	for i, cmd := range c.commands[:last+1] {
		for name := range cmd.assigns {
			if i > gate && before[name] && reads.finds(name) {
				return "it may read " + name + ", which is set again after it"
			}
			before[name] = before[name] || i < gate
		}
	}
	return ""
}

// areUsed says whether another command uses what one sets.
func (c *converter) areUsed(cmd *command) bool {
	for _, other := range c.commands {
		for name := range cmd.assigns {
			if other != cmd && other.uses[name] || c.exports[name] {
				return true
			}
		}
	}
	return false
}

var bashCommands = []string{"pushd", "popd", "source", "declare", "mapfile", "shopt"}

// needsBash says whether a command is not one of every shell.
func needsBash(stmt *syntax.Stmt) (found bool) {
	syntax.Walk(stmt, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.TestClause, *syntax.ProcSubst, *syntax.ArithmCmd, *syntax.LetClause, *syntax.ArrayExpr:
			found = true
		case *syntax.CallExpr:
			found = found || len(n.Args) > 0 && slices.Contains(bashCommands, n.Args[0].Lit())
		case *syntax.Redirect:
			found = found || n.Op == syntax.WordHdoc || n.Op == syntax.RdrAll || n.Op == syntax.AppAll
		}
		return !found
	})
	return found
}

// clears says whether a command only removes a definitions file, as ecsbuild does before it
// begins.
func (c *converter) clears(cmd *command) bool {
	if cmd.stmt == nil {
		return false
	}
	words, err := c.words(cmd.stmt)
	if err != nil || words[0] != "rm" {
		return false
	}
	for _, w := range words[1:] {
		if !strings.HasPrefix(w, "-") && !slices.ContainsFunc(c.files,
			func(f *file) bool { return f.path == relative(c.path(w)) }) {
			return false
		}
	}
	return true
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
		return cmd.stmt == nil || onlyReads(cmd.stmt)
	}
	if cmd.stmt == nil || len(cmd.stmt.Redirs) > 0 {
		return false
	}
	call, ok := cmd.stmt.Cmd.(*syntax.CallExpr)
	if !ok {
		// if …; then TAG=…; fi
		return leaves.FindString(cmd.text) == "" && len(cmd.assigns) > 0 && !strings.Contains(cmd.text, "\n") &&
			onlyReads(cmd.stmt)
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

// unsets says whether a command only takes variables away.
func unsets(cmd *command) bool {
	call, ok := cmd.stmt.Cmd.(*syntax.CallExpr)
	return ok && len(call.Args) > 0 && call.Args[0].Lit() == "unset"
}

// readers are commands that change no file.
var readers = []string{"", "echo", "printf", "cat", "cut", "head", "tail", "tr", "sed", "awk", "grep", "egrep",
	"jq", "yq", "date", "git", "aws", "basename", "dirname", "pwd", "env", "uname", "id", "whoami", "wc", "sort",
	"uniq", "rev", "expr", "test", "[", "true", ":", "node", "hostname", "base64", "md5sum", "sha1sum", "sha256sum",
	"xargs", "ls", "read", "export", "cd", "set", "unset", "seq", "openssl", "curl", "docker"}

// onlyReads says whether a statement that sets variables does nothing else.
func onlyReads(stmt *syntax.Stmt) (ok bool) {
	ok = true
	syntax.Walk(stmt, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CallExpr:
			if len(n.Args) > 0 {
				name := n.Args[0].Lit()
				ok = ok && slices.Contains(readers, name) && !(name == "sed" && strings.Contains(source(n), " -i"))
			}
		case *syntax.Redirect:
			to := n.Word.Lit()
			ok = ok && (n.Op == syntax.DplOut || n.Op == syntax.RdrIn || n.Op == syntax.WordHdoc || n.Hdoc != nil ||
				to == "/dev/null" ||
				strings.HasPrefix(source(n.Word), `"$GITHUB_`) || strings.HasPrefix(source(n.Word), `$GITHUB_`))
		}
		return ok
	})
	return ok
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
		if j < 0 && len(u.build.pushed) == 0 && u.build.at.why == "" {
			continue // it is built as before
		}
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
			if _, ok := c.variables[p.Param.Value]; !ok && c.source != nil {
				c.source.export(p.Param.Value) // it may be from there
			}
			if c.times[p.Param.Value] > 1 {
				why = "it uses " + p.Param.Value + ", which is set more than once"
			}
		}
		return true
	})
	if why != "" {
		return "", why
	}
	if cmd.folder != sourceFolder {
		text = "cd " + relative(cmd.folder) + " && " + text
	}
	return strings.TrimSpace(text), ""
}
