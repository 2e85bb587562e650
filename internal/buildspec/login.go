package buildspec

import (
	"regexp"

	"mvdan.cc/sh/v3/syntax"
)

var getLogin = regexp.MustCompile(`\baws\s+(\S+\s+)*?ecr(-public)?\s+get-login(\s|\)|$)`)

var dockerLogin = regexp.MustCompile(`^(sudo )?docker login\b`)

// toPublic finds commands that log in to ECR Public.
var toPublic = regexp.MustCompile(`\becr-public\b|\bpublic\.ecr\.aws\b`)

var getPassword = regexp.MustCompile(`\baws\s+(\S+\s+)*?ecr(-public)?\s+get-login-password\b`)

// pipe follows logins: of AWS's password to ECR, of a variable to Docker Hub.
func (c *converter) pipe(cmd *command, pipe []*syntax.Stmt) {
	last, err := c.words(pipe[len(pipe)-1])
	if err != nil || len(last) < 2 || last[0] != "docker" || last[1] != "login" {
		return
	}
	if getPassword.MatchString(cmd.text) {
		cmd.login, cmd.public = true, toPublic.MatchString(cmd.text)
		return
	}
	first, err := c.words(pipe[0])
	if err != nil || len(pipe) != 2 || len(first) != 2 || first[0] != "echo" {
		return
	}
	user := ""
	for i := 2; i < len(last); i++ {
		switch {
		case (last[i] == "-u" || last[i] == "--username") && i+1 < len(last):
			user = last[i+1]
			i++
		case last[i] == "--password-stdin":
		default:
			return // another registry: docker's own login is read for base images
		}
	}
	if v := variable(first[1]); v != "" && user != "" {
		c.hubUser, c.hubPassword = user, v
		cmd.login = true
	}
}
