package buildspec

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// A command is one statement of a buildspec's command.
type command struct {
	item *item
	stmt *syntax.Stmt
	line int    // in the buildspec
	text string // as it stands there

	sets     string // the variable that it assigns, and does nothing else
	exported bool   // as a variable of the environment
	replaced bool   // ecsbuild does it
	build    *build // that it makes, names or pushes
	pushes   bool
	gate     bool   // it becomes one
	why      string // it could not be translated
	uses     map[string]bool
	folder   string       // where it runs
	group    *syntax.Stmt // a && b, of which it is a part
	images   []use        // that it names
	assigns  map[string]bool
	login    bool // to ECR
	public   bool // to ECR Public, which counts where images go there
	lost     bool // nobody knows where it runs
	output   bool // it sets an output of a step of GitHub Actions

	exports []string // of what it sets, what must be in the environment
}

// A use is a word of a command that names an image.
type use struct {
	build    *build
	from, to uint // offsets in the item's text
}

// export has a variable that the command sets go into the environment.
func (cmd *command) export(name string) {
	if (!cmd.exported || cmd.sets == "") && !slices.Contains(cmd.exports, name) {
		cmd.exports = append(cmd.exports, name)
	}
}

// newCommand is the next command that is read.
func (c *converter) newCommand(it *item, line int, text string) *command {
	cmd := &command{item: it, line: line, text: text, uses: map[string]bool{}, assigns: map[string]bool{}}
	c.commands = append(c.commands, cmd)
	return cmd
}

// follow goes through one command of the buildspec.
func (c *converter) follow(it *item) {
	parser := syntax.NewParser(syntax.Variant(syntax.LangBash))
	f, err := parser.Parse(strings.NewReader(it.text), "")
	if err != nil {
		cmd := c.newCommand(it, it.line, it.text)
		if mentionsDocker.MatchString(it.text) {
			c.problem(cmd, "it is not understood as a command of the shell: "+err.Error())
		}
		return
	}
	if len(f.Stmts) > 1 && leaves.MatchString(it.text) && mentionsDocker.MatchString(it.text) {
		cmd := c.newCommand(it, it.line, strings.TrimSpace(it.text))
		c.problem(cmd, "what it builds or pushes depends on what happens when it runs")
		c.lost = true
		return
	}
	for _, stmt := range f.Stmts {
		c.statement(it, stmt)
	}
}

// builds finds docker's commands that build and push, in whatever they are wrapped.
var builds = regexp.MustCompile(`\bdocker\s+(--?[a-z]\S*(\s+[^-\s]\S*)?\s+)*((image|buildx)\s+)?(build|push|bake)\b`)

// leaves finds commands that end the others of their block.
var leaves = regexp.MustCompile(`\b(exit|return)\b`)

var mentionsDocker = regexp.MustCompile(`\bdocker(-compose)?\b\s+(\S+\s+)*?(build|push|tag|compose|up)\b`)

func (c *converter) statement(it *item, stmt *syntax.Stmt) {
	if b, ok := stmt.Cmd.(*syntax.BinaryCmd); ok && b.Op == syntax.AndStmt && !stmt.Background && len(stmt.Redirs) == 0 &&
		!isTest(b.X) {
		if c.group == nil {
			c.group = stmt
			defer func() { c.group = nil }()
		}
		c.statement(it, b.X)
		c.statement(it, b.Y)
		return
	}
	text := strings.TrimSpace(it.text[stmt.Pos().Offset():endOf(stmt, it.text)])
	cmd := c.newCommand(it, it.lineOf(int(stmt.Pos().Line())), strings.TrimSuffix(text, ";"))
	cmd.stmt, cmd.folder, cmd.lost = stmt, c.folder, c.lost
	top := c.group == nil
	if top {
		c.group = stmt
		defer func() { c.group = nil }()
	}
	cmd.group = c.group
	syntax.Walk(stmt, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.ParamExp:
			if n.Param != nil {
				cmd.uses[n.Param.Value] = true
			}
			if n.Excl { // ${!V}
				c.usesAll(cmd)
			}
		case *syntax.Assign:
			if n.Naked && n.Name != nil { // export V
				cmd.uses[n.Name.Value] = true
			}
		case *syntax.ArithmExp, *syntax.ArithmCmd, *syntax.LetClause:
			syntax.Walk(n, func(n syntax.Node) bool {
				if w, ok := n.(*syntax.Word); ok && syntax.ValidName(w.Lit()) {
					cmd.uses[w.Lit()] = true
				}
				return true
			})
		}
		return true
	})
	c.simple(cmd, stmt)
	c.assignsDefaults(cmd)
	call, ok := stmt.Cmd.(*syntax.CallExpr)
	if ok && len(call.Args) > 0 && slices.Contains([]string{"bash", "sh", "eval"}, call.Args[0].Lit()) &&
		mentionsDocker.MatchString(cmd.text) {
		c.problem(cmd, "what another shell builds or pushes is not seen: "+call.Args[0].Lit())
	}
	if cmd.build == nil {
		c.mentions(cmd)
		if builds.MatchString(cmd.text) {
			c.problem(cmd, "the way in which it builds or pushes is not understood")
		}
	}
}

// endOf is where a part of a text ends, with the here-documents that stand after it.
func endOf(n syntax.Node, text string) uint {
	end := n.End().Offset()
	syntax.Walk(n, func(n syntax.Node) bool {
		if r, ok := n.(*syntax.Redirect); ok && r.Hdoc != nil {
			last := r.Hdoc.End().Offset()
			if line := strings.IndexByte(text[last:], '\n'); line >= 0 { // that of the delimiter
				last += uint(line)
			} else {
				last = uint(len(text))
			}
			end = max(end, last)
		}
		return true
	})
	return end
}

// isTest says whether a statement is a condition, on which the next one depends.
func isTest(stmt *syntax.Stmt) bool {
	switch n := stmt.Cmd.(type) {
	case *syntax.TestClause:
		return true
	case *syntax.CallExpr:
		return len(n.Args) > 0 && slices.Contains([]string{"[", "test", "grep", "git", "which", "command"}, n.Args[0].Lit()) || stmt.Negated
	case *syntax.BinaryCmd:
		return n.Op != syntax.Pipe && (isTest(n.X) || isTest(n.Y))
	}
	return stmt.Negated
}

// textOf is a part of a command as it stands there.
func textOf(cmd *command, n syntax.Node) string {
	return cmd.item.text[n.Pos().Offset():endOf(n, cmd.item.text)]
}

// quiet are variables in front of docker that change no image.
var quiet = []string{"DOCKER_BUILDKIT", "BUILDKIT_PROGRESS", "COMPOSE_DOCKER_CLI_BUILD", "BUILDPLATFORM", "DOCKER_CLI_HINTS"}

// otherCommit finds commands after which git rev-parse tells another commit.
var otherCommit = regexp.MustCompile(
	`\bgit\s+(-\S+\s+\S+\s+)*(clone|checkout|switch|pull|reset|merge|commit|rebase|cherry-pick|am|revert)\b`)

// simple follows a statement that is no loop, condition or function.
func (c *converter) simple(cmd *command, stmt *syntax.Stmt) {
	if stmt.Background || stmt.Negated { // a shell of its own; a failure that is none
		folder, lost := c.folder, c.lost
		c.conditional(cmd, stmt)
		if stmt.Background {
			c.folder, c.lost = folder, lost
		}
		return
	}
	if b, ok := stmt.Cmd.(*syntax.BinaryCmd); ok && b.Op == syntax.OrStmt && !isTest(b.X) { // docker pull … || true
		folder := c.folder
		c.simple(cmd, b.X)
		c.conditional(cmd, b.Y)
		c.lost = c.lost || c.folder != folder && !leaves.MatchString(textOf(cmd, b.Y))
		if (cmd.pushes || cmd.build != nil) && !leaves.MatchString(textOf(cmd, b.Y)) {
			c.notes = append(c.notes, fmt.Sprintf("line %d: the buildspec went on where %s failed; ecsbuild run fails then",
				cmd.line, shorten(textOf(cmd, b.X))))
		}
		return
	}
	if pipe := pipeline(stmt); len(pipe) > 1 {
		if call, ok := pipe[0].Cmd.(*syntax.CallExpr); ok && len(call.Args) > 0 && call.Args[0].Lit() == "docker" {
			c.call(cmd, pipe[0], call) // docker build … | tee log
			return
		}
		c.pipe(cmd, pipe)
		return
	}
	switch call := stmt.Cmd.(type) {
	default:
		c.conditional(cmd, stmt)
	case *syntax.FuncDecl:
		if call.Name != nil { // the parser takes a function without a name
			c.functions[call.Name.Value] = call.Body
		}
		c.conditional(cmd, stmt)
	case *syntax.DeclClause:
		plain := call.Variant.Value == "export"
		cmd.exported = plain
		c.assign(cmd, call.Args)
		if !plain {
			cmd.sets = "" // declare -x A=1: nothing can be put before it
		}
		c.declares(cmd, call)
	case *syntax.CallExpr:
		if len(call.Args) == 0 {
			c.assign(cmd, call.Assigns)
			return
		}
		c.call(cmd, stmt, call)
	}
}

var setAll = regexp.MustCompile(`\s-[a-z]*a|allexport`)

func (c *converter) call(cmd *command, stmt *syntax.Stmt, call *syntax.CallExpr) {
	_, substitutes := call.Args[0].Parts[0].(*syntax.CmdSubst)
	if substitutes && getLogin.MatchString(cmd.text) || // $(aws ecr get-login …)
		dockerLogin.MatchString(cmd.text) && getPassword.MatchString(cmd.text) {
		cmd.login, cmd.public = true, toPublic.MatchString(cmd.text)
		return
	}
	c.setsOtherwise(cmd, call)
	switch name := call.Args[0].Lit(); name {
	case "command", "builtin", "exec", "env", "time", "nohup", "nice", "stdbuf":
		c.lost = c.lost || strings.Contains(cmd.text, "cd ") || strings.Contains(cmd.text, "pushd ")
	case "set":
		c.allExport = c.allExport || setAll.MatchString(cmd.text)
		c.pipefail = c.pipefail || strings.Contains(cmd.text, "pipefail")
	case "docker", "docker-compose":
		for _, a := range call.Assigns {
			if a.Name != nil && !slices.Contains(quiet, a.Name.Value) {
				c.problem(cmd, a.Name.Value+" in front of it is not translated")
			}
		}
	}
	if otherCommit.MatchString(cmd.text) {
		c.otherCommit = true
	}
	words, err := c.words(stmt)
	if err != nil {
		c.unknown(cmd, call, err)
		return
	}
	if words[0] == "sudo" && len(words) > 1 {
		words = words[1:]
	}
	switch words[0] {
	case "docker":
		if len(words) > 1 {
			c.docker(cmd, words[1:])
		}
	case "docker-compose":
		c.compose(cmd, words[1:])
	case "cd", "pushd":
		if len(words) == 2 && words[1] != "-" {
			c.cd(words[1])
		} else {
			c.lost = true
		}
	case "popd":
		c.lost = true
	case "printf", "echo", "cat":
		c.write(cmd, stmt, words)
	}
}

// unknown is for a command with a word that is not understood.
func (c *converter) unknown(cmd *command, call *syntax.CallExpr, err error) {
	if name := call.Args[0].Lit(); name == "docker" || name == "docker-compose" || name == "sudo" {
		if mentionsDocker.MatchString(cmd.text) {
			c.problem(cmd, err.Error())
		}
	} else if name == "cd" || name == "pushd" || name == "popd" {
		c.lost = true
	}
}

// shorten is a command in a line.
func shorten(text string) string {
	text, more, _ := strings.Cut(text, "\n")
	if r := []rune(text); more != "" || len(r) > 100 {
		text = string(r[:min(len(r), 99)]) + " …"
	}
	return text
}
