package buildspec

import (
	"fmt"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// conditional is for what may run or not: a condition, a loop, a function. What it sets is not
// known, nor the folder after it.
func (c *converter) conditional(cmd *command, n syntax.Node) {
	subshell := false
	if s, ok := n.(*syntax.Stmt); ok {
		_, subshell = s.Cmd.(*syntax.Subshell)
	}
	syntax.Walk(n, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CmdSubst, *syntax.ProcSubst:
			return false // in a shell of its own
		case *syntax.Assign:
			if n.Name != nil && !subshell {
				c.set(n.Name.Value, assigned{at: cmd})
			}
		case *syntax.ForClause:
			if loop, ok := n.Loop.(*syntax.WordIter); ok && loop.Name != nil && !subshell {
				c.set(loop.Name.Value, assigned{at: cmd})
			}
		case *syntax.DeclClause:
			if !subshell {
				c.declares(cmd, n)
			}
		case *syntax.ArithmCmd, *syntax.ArithmExp, *syntax.LetClause:
			if !subshell {
				c.calculates(cmd, n)
			}
		case *syntax.CallExpr:
			if subshell || len(n.Args) == 0 {
				return true
			}
			if slices.Contains([]string{"cd", "pushd", "popd"}, n.Args[0].Lit()) {
				c.lost = true
			}
			c.setsOtherwise(cmd, n)
		}
		return true
	})
	if mentionsDocker.MatchString(source(n)) { // which may be the body of a function, from elsewhere
		c.problem(cmd, "what it builds or pushes depends on what happens when it runs")
	}
}

// declares is for export $(cat .env), which sets variables nobody sees.
func (c *converter) declares(cmd *command, n *syntax.DeclClause) {
	for _, a := range n.Args {
		if a.Name == nil && a.Value != nil && !strings.HasPrefix(a.Value.Lit(), "-") {
			c.opaque(cmd)
		}
	}
}

// calculates is for ((N++)) and let N=1.
func (c *converter) calculates(cmd *command, n syntax.Node) {
	syntax.Walk(n, func(n syntax.Node) bool {
		var x syntax.ArithmExpr
		switch n := n.(type) {
		case *syntax.UnaryArithm:
			x = n.X
		case *syntax.BinaryArithm:
			x = n.X
		default:
			return true
		}
		if w, ok := x.(*syntax.Word); ok && syntax.ValidName(w.Lit()) {
			if _, known := c.variables[w.Lit()]; known {
				c.set(w.Lit(), assigned{at: cmd})
			}
		}
		return true
	})
}

// setsOtherwise is for commands that set variables, and are no assignments.
func (c *converter) setsOtherwise(cmd *command, call *syntax.CallExpr) {
	name := call.Args[0].Lit()
	switch name {
	case ".", "source", "eval":
		c.opaque(cmd)
	case "read", "unset", "mapfile", "readarray", "getopts", "printf":
		for i, w := range call.Args[1:] {
			if syntax.ValidName(w.Lit()) && (name != "printf" || i > 0 && call.Args[i].Lit() == "-v") {
				c.set(w.Lit(), assigned{at: cmd})
			}
		}
	}
	if body := c.functions[name]; body != nil && !c.calling[name] {
		c.calling[name] = true
		c.conditional(cmd, body)
		delete(c.calling, name)
	}
}

// usesAll is for a command that may use every variable.
func (c *converter) usesAll(cmd *command) {
	for name := range c.variables {
		cmd.uses[name] = true
	}
}

// opaque is for a command that sets variables nobody sees: every one may be another after it,
// and it may use every one.
func (c *converter) opaque(cmd *command) {
	for name := range c.variables {
		cmd.uses[name] = true
		if !c.variables[name].lost {
			cmd.assigns[name] = true
			c.variables[name] = assigned{at: cmd}
		}
	}
	c.source = cmd
}

// tools are variables by which docker's and AWS's commands go.
var tools = map[string]bool{"AWS_DEFAULT_REGION": true, "AWS_REGION": true, "AWS_PROFILE": true,
	"AWS_ACCESS_KEY_ID": true, "AWS_SECRET_ACCESS_KEY": true, "AWS_SESSION_TOKEN": true, "DOCKER_DEFAULT_PLATFORM": true,
	"DOCKER_HOST": true, "DOCKER_CONTEXT": true, "DOCKER_CONFIG": true}

// set takes what a variable is set to.
func (c *converter) set(name string, v assigned) {
	c.times[name]++
	if tools[name] && (len(c.builds) > 0 || c.usedOutside[name] || c.usedAccount) {
		c.problem(v.at, "it changes what docker's and AWS's commands after it do, and ecsbuild does all at once")
	}
	v.at.assigns[name] = true
	if old := c.variables[name]; old.needed && old.at != v.at { // its value then is not the one that ecsbuild finds
		v.at.why = fmt.Sprintf("it sets %s again, of which an earlier value is needed as well", name)
		v = assigned{at: old.at, needed: true, lost: true}
	} else if _, was := c.variables[name]; !was && c.usedOutside[name] && !v.known {
		c.problem(v.at, fmt.Sprintf("it sets %s, whose earlier value is needed as well", name))
	} else if was && !v.known && old.known && strings.HasPrefix(old.value, "${"+name+":-") { // ${V:=…} before
		c.problem(v.at, fmt.Sprintf("it sets %s again, of which an earlier value is needed as well", name))
	}
	c.variables[name] = v
}

func (c *converter) assign(cmd *command, assigns []*syntax.Assign) {
	for _, a := range assigns {
		if a.Name == nil {
			continue
		}
		if a.Naked { // export PATH: commands see whatever it is set to
			c.exports[a.Name.Value] = c.exports[a.Name.Value] || cmd.exported
			continue
		}
		value, err := "", error(nil)
		used := c.usedOutside[a.Name.Value]
		if a.Append {
			cmd.uses[a.Name.Value] = true
		}
		switch {
		case a.Array != nil || a.Append || a.Index != nil:
			err = &unknownError{source(a) + " is not understood"}
		default:
			value, err = c.word(a.Value)
		}
		if _, ok := c.variables[a.Name.Value]; !ok && used && err != nil {
			c.problem(cmd, fmt.Sprintf("it sets %s, whose earlier value is needed as well", a.Name.Value))
		}
		c.set(a.Name.Value, assigned{value: value, known: err == nil, at: cmd})
		if len(assigns) == 1 {
			cmd.sets = a.Name.Value
		}
	}
}

// assignsDefaults is for ${TAG:=latest}, after which TAG has that value.
func (c *converter) assignsDefaults(cmd *command) {
	syntax.Walk(cmd.stmt, func(n syntax.Node) bool {
		p, ok := n.(*syntax.ParamExp)
		if !ok || p.Exp == nil || p.Param == nil || p.Exp.Op != syntax.AssignUnset && p.Exp.Op != syntax.AssignUnsetOrNull {
			return true
		}
		if _, set := c.variables[p.Param.Value]; !set && outside[p.Param.Value] == "" {
			value, err := c.expansion(p)
			c.set(p.Param.Value, assigned{value: value, known: err == nil, at: cmd})
		}
		return true
	})
}
