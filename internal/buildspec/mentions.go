package buildspec

import (
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// takesImages are commands whose words may be images without a tag.
var takesImages = regexp.MustCompile(
	`(^|[\s(|&;/])(docker|podman|trivy|grype|syft|dive|dockle|snyk|goss|dgoss|container-structure-test|cosign|hadolint)\s`)

// findSubstitution finds a command whose output is a part of another one.
func findSubstitution(stmt *syntax.Stmt) (found *syntax.CmdSubst, ok bool) {
	syntax.Walk(stmt, func(n syntax.Node) bool {
		if s, is := n.(*syntax.CmdSubst); is {
			found, ok = s, true
		}
		return !ok
	})
	return found, ok
}

// mentions finds images that are built here among the words of another command, such as a
// test or a scan.
func (c *converter) mentions(cmd *command) {
	if _, substitutes := findSubstitution(cmd.stmt); cmd.sets != "" && !substitutes {
		return // IMAGE=$REPOSITORY_URI:latest
	}
	if call, ok := cmd.stmt.Cmd.(*syntax.CallExpr); ok && len(call.Args) > 0 &&
		slices.Contains([]string{"echo", "printf", "cat"}, call.Args[0].Lit()) {
		return
	}
	syntax.Walk(cmd.stmt, func(n syntax.Node) bool {
		w, ok := n.(*syntax.Word)
		if !ok {
			return true
		}
		text, err := c.word(w)
		if err != nil || text == "" {
			return true
		}
		if b := c.local[parseReference(text).String()]; b != nil &&
			(strings.ContainsAny(text, ":/") || takesImages.MatchString(cmd.text)) {
			b.users = append(b.users, cmd)
			cmd.images = append(cmd.images, use{b, w.Pos().Offset(), w.End().Offset()})
			return false
		}
		return true
	})
}
