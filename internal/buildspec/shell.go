package buildspec

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// A shell follows what the commands of a buildspec would do to variables and the working
// folder, as far as that can be known without running them.
type shell struct {
	variables map[string]assigned
	folder    string // the working folder, a template; sourceFolder at first
	lost      bool   // nobody knows the working folder any more

	usedOutside map[string]bool // variables that the environment has, and that something needs
	otherCommit bool            // git is not at the commit of the sources any more
	inserted    map[string]insertion
	usedAccount bool   // the caller's account has been asked for
	commit      string // how ecsbuild.yml names it: by another variable where COMMIT is something else
}

// An insertion is an expression of GitHub's in the text of the shell.
type insertion struct {
	value  string // a template
	source string // as it stands there
}

// assigned is the value of a variable that the buildspec sets.
type assigned struct {
	value  string
	known  bool
	at     *command // that sets it
	lost   bool     // ecsbuild would find an earlier value
	needed bool     // it is not known, and what uses it finds it in the environment
}

func newShell() *shell {
	return &shell{variables: map[string]assigned{}, folder: sourceFolder, usedOutside: map[string]bool{},
		inserted: map[string]insertion{}, commit: commit}
}

// An unknownError says what init does not understand of a word.
type unknownError struct{ what string }

func (e *unknownError) Error() string { return e.what }

// word is what a word of the shell stands for.
func (s *shell) word(w *syntax.Word) (string, error) {
	if w == nil {
		return "", nil
	}
	return s.parts(w.Parts, false)
}

var escaped = regexp.MustCompile(`(?s)\\(.)`)

func (s *shell) parts(parts []syntax.WordPart, quoted bool) (string, error) {
	var b strings.Builder
	for _, p := range parts {
		text, err := s.part(p, quoted)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func (s *shell) part(p syntax.WordPart, quoted bool) (string, error) {
	literal := func(text string) string {
		text = strings.ReplaceAll(text, "$", "$$")
		return mark.ReplaceAllStringFunc(text,
			func(m string) string { return s.inserted[mark.FindStringSubmatch(m)[1]].value })
	}
	switch p := p.(type) {
	case *syntax.Lit:
		text := p.Value
		if !quoted && strings.HasPrefix(text, "~") {
			return "", &unknownError{text + " is a folder of the user's"}
		}
		if quoted {
			text = regexp.MustCompile("\\\\([\"\\\\$`\n])").ReplaceAllString(text, "$1")
		} else {
			text = escaped.ReplaceAllString(text, "$1")
			if strings.ContainsAny(p.Value, "*?[") {
				return "", &unknownError{p.Value + " stands for the names of files"}
			}
		}
		return literal(text), nil
	case *syntax.SglQuoted:
		if p.Dollar {
			return "", &unknownError{"$'…' is not understood"}
		}
		return literal(p.Value), nil
	case *syntax.DblQuoted:
		return s.parts(p.Parts, true)
	case *syntax.ParamExp:
		text, err := s.expansion(p)
		if err == nil && !quoted && strings.ContainsAny(text, " \t\n") {
			err = &unknownError{source(p) + " stands for several words"}
		}
		return text, err
	case *syntax.CmdSubst:
		return s.substitution(p)
	}
	return "", &unknownError{source(p) + " is not understood"}
}

// source prints what was parsed.
func source(n syntax.Node) string {
	var b strings.Builder
	_ = syntax.NewPrinter(syntax.SingleLine(true)).Print(&b, n)
	return b.String()
}

// commit is that of the sources.
const commit = "${COMMIT}"

// outside are the variables that CodeBuild sets, and what ecsbuild has in their place.
var outside = map[string]string{"CODEBUILD_RESOLVED_SOURCE_VERSION": commit, "CODEBUILD_SRC_DIR": sourceFolder,
	"GITHUB_SHA": commit, "GITHUB_WORKSPACE": sourceFolder}

// shellVariables are those that a shell has, and no other program.
var shellVariables = map[string]bool{"UID": true, "EUID": true, "HOSTNAME": true, "RANDOM": true, "SECONDS": true,
	"LINENO": true, "PPID": true, "OLDPWD": true, "SHLVL": true, "OSTYPE": true, "HOSTTYPE": true, "MACHTYPE": true,
	"IFS": true, "BASH": true, "BASH_VERSION": true, "BASHPID": true, "SHELLOPTS": true}

func (s *shell) expansion(p *syntax.ParamExp) (string, error) {
	name := p.Param.Value
	unknown := &unknownError{source(p) + " is not understood"}
	if p.Excl || p.Length || p.Width || p.Index != nil || p.Repl != nil || p.Names != 0 || !syntax.ValidName(name) {
		return "", unknown
	}
	if name == "PWD" {
		return s.folder, nil
	}
	if shellVariables[name] {
		return "", &unknownError{source(p) + " is known to the shell alone"}
	}
	value, isOutside := "${"+name+"}", true
	if v, ok := s.variables[name]; ok {
		switch {
		case v.lost:
			return "", &unknownError{name + " is set more than once, and ecsbuild would find an earlier value"}
		case v.known:
			value, isOutside = v.value, false
		default:
			v.needed = true
			s.variables[name] = v
		}
	} else if v, ok := outside[name]; ok {
		if value, isOutside = v, false; v == commit {
			value = s.commit
		}
	} else if p.Exp == nil || p.Exp.Op != syntax.AssignUnset && p.Exp.Op != syntax.AssignUnsetOrNull {
		s.usedOutside[name] = true
	}
	switch {
	case p.Slice != nil:
		offset, err1 := number(p.Slice.Offset)
		length, err2 := number(p.Slice.Length)
		if err1 != nil || err2 != nil || offset < 0 || p.Slice.Length != nil && length < 0 {
			return "", unknown
		}
		return substring(value, offset, length, p.Slice.Length != nil, unknown)
	case p.Exp == nil:
		return value, nil
	}
	word, err := s.word(p.Exp.Word)
	if err != nil {
		return "", err
	}
	switch op := p.Exp.Op; op {
	case syntax.DefaultUnset, syntax.AssignUnset:
		if !isOutside {
			return value, nil
		}
		return fmt.Sprintf("${%s-%s}", name, word), nil
	case syntax.DefaultUnsetOrNull, syntax.AssignUnsetOrNull:
		if !isOutside {
			return orElse(value, word, unknown)
		}
		return fmt.Sprintf("${%s:-%s}", name, word), nil
	}
	return "", unknown
}

var (
	neverEmpty = regexp.MustCompile(`\$\{(COMMIT(:[^}]*)?|[A-Za-z_][A-Za-z0-9_]*:-[^}]+)\}`)
	anyOfThem  = regexp.MustCompile(`\$\{[^}]*\}`)
)

// notEmpty says whether a template is a text whatever its variables are, such as a commit.
func notEmpty(t string) bool {
	return neverEmpty.MatchString(t) || anyOfThem.ReplaceAllString(t, "") != ""
}

// orElse is a template, or a word where it is empty.
func orElse(value, word string, unknown error) (string, error) {
	switch name := variable(value); {
	case value == "":
		return word, nil
	case notEmpty(value):
		return value, nil
	case name != "":
		return fmt.Sprintf("${%s:-%s}", name, word), nil
	}
	return "", unknown
}

func number(e syntax.ArithmExpr) (int, error) {
	if e == nil {
		return 0, nil
	}
	w, ok := e.(*syntax.Word)
	if !ok {
		return 0, strconv.ErrSyntax
	}
	return strconv.Atoi(w.Lit())
}

// substring takes characters of a template, which can be said of a variable or of a text.
func substring(value string, offset, length int, limited bool, unknown error) (string, error) {
	switch name := variable(value); {
	case name != "" && limited:
		return fmt.Sprintf("${%s:%d:%d}", name, offset, length), nil
	case name != "":
		return fmt.Sprintf("${%s:%d}", name, offset), nil
	case !isFixed(value):
		return "", unknown
	}
	runes := []rune(value)
	to := len(runes)
	if limited {
		to = min(to, offset+length)
	}
	return string(runes[min(offset, to):to]), nil
}

// pipeline are the statements of a | b | c.
func pipeline(stmt *syntax.Stmt) []*syntax.Stmt {
	if b, ok := stmt.Cmd.(*syntax.BinaryCmd); ok && b.Op == syntax.Pipe && len(stmt.Redirs) == 0 {
		return append(pipeline(b.X), pipeline(b.Y)...)
	}
	return []*syntax.Stmt{stmt}
}

// words are those of a simple command, whose assignments are left out.
func (s *shell) words(stmt *syntax.Stmt) (out []string, err error) {
	call, ok := stmt.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) == 0 {
		return nil, &unknownError{source(stmt) + " is not a simple command"}
	}
	for _, w := range call.Args {
		text, err := s.word(w)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

// cd changes the working folder.
func (s *shell) cd(to string) {
	if strings.Contains(to, "..") && strings.Contains(s.folder, "$") {
		s.lost = true // a variable may stand for several folders
	}
	s.folder = s.path(to)
}

// path is where a path lies that starts in the working folder.
func (s *shell) path(p string) string {
	switch {
	case strings.HasPrefix(p, sourceFolder):
		return clean(p)
	case strings.HasPrefix(p, "${CODEBUILD_SRC_DIR_"): // a secondary source
		return p
	case strings.HasPrefix(p, "/"):
		return path.Clean(p)
	}
	return clean(s.folder + "/" + p)
}

// clean is path.Clean below the folder of the sources, which is not left.
func clean(p string) string {
	rest, ok := strings.CutPrefix(p, sourceFolder)
	if !ok {
		return path.Clean(p)
	}
	if rest = path.Clean(strings.TrimLeft(rest, "/")); rest == "." || rest == "" {
		return sourceFolder
	}
	return sourceFolder + "/" + rest
}

// relative is a path from the folder of the sources, as ecsbuild.yml has it.
func relative(p string) string {
	if p == sourceFolder {
		return "."
	}
	return strings.TrimPrefix(p, sourceFolder+"/")
}
