package buildspec

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// keepVariables leaves out what sets a variable that nothing uses any more.
func (c *converter) keepVariables() {
	used, translated := map[string]bool{}, map[string]bool{}
	for name := range c.exports {
		used[name] = true
	}
	for _, cmd := range c.commands {
		if isFunction(cmd) { // it is used where it is called
			for name := range cmd.uses {
				used[name] = true
			}
		}
		if cmd.replaced || cmd.sets != "" { // what they use may be for them alone
			for name := range cmd.uses {
				translated[name] = true
			}
		}
	}
	reads := readsNone
	before := false // ecsbuild, which reads variables as well
	for i := len(c.commands) - 1; i >= 0; i-- {
		cmd := c.commands[i]
		if cmd == c.at {
			for _, name := range ofRun {
				used[name] = true
			}
			before = true
		}
		if cmd.replaced {
			continue
		}
		if before && slices.Contains(ofEcsbuild, cmd.sets) {
			c.problem(cmd, "ecsbuild reads "+cmd.sets+" for a purpose of its own")
		}
		if cmd.sets == "" {
			reads = max(reads, cmd.reads())
		}
		if cmd.gate {
			continue
		}
		if cmd.sets != "" && !cmd.exported && !c.allExport && len(cmd.exports) == 0 && !used[cmd.sets] &&
			translated[cmd.sets] && !reads.finds(cmd.sets) {
			cmd.replaced = true
			continue
		}
		for name := range cmd.uses {
			used[name] = true
		}
		if cmd.sets == "" {
			for _, name := range cmd.exports { // which it may leave as it was
				used[name] = true
			}
		}
	}
}

// ofRun are variables that ecsbuild run reads as docker's and AWS's commands do.
var ofRun = append(slices.Collect(maps.Keys(tools)), "BUILDKIT_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SOURCE_DATE_EPOCH")

// ofEcsbuild are variables that nothing else reads, as far as docker and AWS go.
var ofEcsbuild = []string{"BUILD_CACHE", "ECSBUILD_BUILDER", "ECSBUILD_CACHE"}

// reads is which variables a command finds in its environment. CodeBuild seems to export all that a
// buildspec sets, whether it says export or not.
type reads int

const (
	readsNone reads = iota
	readsAWS        // those of AWS's tools
	readsAll
)

func (r reads) finds(variable string) bool {
	return r == readsAll || r == readsAWS && strings.HasPrefix(variable, "AWS_")
}

// ignoreEnvironment are commands that read no variable which a buildspec means for them.
var ignoreEnvironment = []string{"", "[", "apk", "apt", "apt-get", "base64", "basename", "break", "cat", "cd", "chmod",
	"chown", "continue", "cp", "cut", "date", "dirname", "docker", "dockerd", "echo", "exit", "export",
	"false", "file", "grep", "gunzip", "gzip", "head", "kill", "ln", "ls", "mkdir", "mv", "popd", "printf",
	"ps", "pushd", "pwd", "read", "realpath", "return", "rm", "rmdir", "sed", "seq", "set", "sha256sum", "shift", "sleep",
	"sort", "stat", "sync", "tail", "tar", "tee", "test", "touch", "tr", "true", "uname", "uniq", "unset",
	"unzip", "wait", "wc", "which", "whoami", "yum", "zip"}

func (cmd *command) reads() (most reads) {
	if cmd.stmt == nil {
		return readsAll
	}
	syntax.Walk(cmd.stmt, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		switch name := path.Base(call.Args[0].Lit()); {
		case name == "aws":
			most = max(most, readsAWS)
		case name == "docker" && passesEnvironment(call), !slices.Contains(ignoreEnvironment, name):
			most = readsAll
		}
		return true
	})
	return most
}

var passesVariable = regexp.MustCompile(`^(compose|stack|bake|exec|-[a-z]*e.*|--env.*|--build-arg.*|--secret.*)$`)

// passesEnvironment says whether docker reads variables: for a container, a build or a Compose file.
func passesEnvironment(call *syntax.CallExpr) bool {
	for _, w := range call.Args {
		if passesVariable.MatchString(source(w)) {
			return true
		}
	}
	return false
}
