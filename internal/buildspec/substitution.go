package buildspec

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

var (
	cutCharacters = regexp.MustCompile(`^cut -c ?1?-([0-9]+)$`)
	headBytes     = regexp.MustCompile(`^head -c ?([0-9]+)$`)
	shortCommit   = regexp.MustCompile(
		`^git rev-parse --short(?:=([0-9]+))? (?:HEAD|\$\{(?:COMMIT|CODEBUILD_RESOLVED_SOURCE_VERSION|GITHUB_SHA)\})$`)
	accountOfARN = regexp.MustCompile(`^cut (?:-d ?'?"?:"?'? -f ?5|-f ?5 -d ?'?"?:"?'?)$`)
)

// substitution is what a command prints, of the few that buildspecs have for a value.
func (s *shell) substitution(c *syntax.CmdSubst) (string, error) {
	unknown := &unknownError{source(c) + " is known only when it runs"}
	if len(c.Stmts) != 1 || len(c.Stmts[0].Redirs) > 0 {
		return "", unknown
	}
	pipe := pipeline(c.Stmts[0])
	for _, stmt := range pipe { // AWS_PROFILE=prod aws …
		if call, ok := stmt.Cmd.(*syntax.CallExpr); ok && len(call.Assigns) > 0 {
			return "", unknown
		}
	}
	words, err := s.words(pipe[0])
	if err != nil {
		return "", err
	}
	first := strings.Join(words, " ")
	switch {
	case len(pipe) == 1 && first == "pwd":
		return s.folder, nil
	case strings.HasPrefix(first, "git ") && (s.otherCommit || s.lost || !strings.HasPrefix(s.folder, sourceFolder)):
		return "", unknown
	case len(pipe) == 1 && first == "git rev-parse HEAD":
		return s.commit, nil
	case len(pipe) == 1 && shortCommit.MatchString(first):
		digits, err := strconv.Atoi(cmp.Or(shortCommit.FindStringSubmatch(first)[1], "7"))
		if err != nil {
			return "", unknown
		}
		return substring(s.commit, 0, digits, true, unknown)
	case strings.HasPrefix(first, "aws ") && strings.Contains(first, "--profile"):
		return "", unknown
	case strings.HasPrefix(first, "aws sts get-caller-identity") && strings.Contains(source(c), "Account"):
		s.usedAccount = true
		return callerAccount, nil
	case strings.HasPrefix(first, "aws configure get region"), first == "aws configure get default.region":
		return callerRegion, nil
	case len(pipe) == 1 && strings.HasPrefix(first, "aws ecr describe-repositories "):
		return repositoryURI(words[3:], unknown)
	case words[0] == "echo" && len(words) == 2 && len(pipe) == 2:
		next, err := s.words(pipe[1])
		if err != nil {
			return "", err
		}
		filter := strings.Join(next, " ")
		for _, p := range []*regexp.Regexp{cutCharacters, headBytes} {
			if m := p.FindStringSubmatch(filter); m != nil {
				n, err := strconv.Atoi(m[1])
				if err != nil {
					return "", unknown
				}
				return substring(words[1], 0, n, true, unknown)
			}
		}
		if words[1] == "${CODEBUILD_BUILD_ARN}" && accountOfARN.MatchString(filter) {
			return callerAccount, nil
		}
	}
	return "", unknown
}

// repositoryURI is what aws ecr describe-repositories prints of one repository.
func repositoryURI(args []string, unknown error) (string, error) {
	region, name := callerRegion, ""
	for i := 0; i < len(args); i++ {
		flag, value, ok := strings.Cut(args[i], "=")
		if !ok && i+1 < len(args) {
			i++
			value = args[i]
		}
		switch flag {
		case "--region":
			region = value
		case "--repository-names", "--repository-name":
			name = value
		case "--query":
			if !strings.HasSuffix(value, "repositories[0].repositoryUri") &&
				!strings.HasSuffix(value, "repositories[].repositoryUri") {
				return "", unknown
			}
		case "--output":
		default: // a second name, or another registry
			return "", unknown
		}
	}
	if name == "" {
		return "", unknown
	}
	return callerAccount + ".dkr.ecr." + region + ".amazonaws.com/" + name, nil
}
