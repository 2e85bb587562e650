package config

import (
	"fmt"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// Docker Hub's account has many names in people's environments: each prefix with each of
// the words.
var (
	hubPrefixes  = []string{"DOCKER_", "DOCKERHUB_", "DOCKER_HUB_"}
	hubUsers     = []string{"USER", "USERNAME", "ID"}
	hubPasswords = []string{"PASSWORD", "PASS", "TOKEN"}
)

// hubVariables finds user name and password: both with one prefix, or else any; "" for none.
func (b *resolver) hubVariables() (user, password string) {
	find := func(prefix string, words []string) string {
		for _, w := range words {
			if b.env[prefix+w] != "" {
				return prefix + w
			}
		}
		return ""
	}
	var anyUser, anyPassword string
	for _, prefix := range hubPrefixes {
		user, password = find(prefix, hubUsers), find(prefix, hubPasswords)
		if user != "" && password != "" {
			return user, password
		}
		if anyUser == "" {
			anyUser = user
		}
		if anyPassword == "" {
			anyPassword = password
		}
	}
	return anyUser, anyPassword
}

// hub is the account for Docker Hub: the file's, else the environment's, else the two
// parameters that the usual setup has.
func (b *resolver) hub() (plan.Login, error) {
	hub := plan.Login{Host: plan.DockerHub}
	variable := func(name string) plan.Source {
		return plan.Source{Kind: plan.FromEnv, Name: name, Value: plan.NewSecret(b.env[name])}
	}
	user, password := b.hubVariables()
	switch c := b.config.hub; {
	case c != nil:
		hub.Username, hub.Password = c.username, c.password
		return hub, nil
	case user != "" && password != "":
		if user != "DOCKER_USER" || password != "DOCKER_PASSWORD" {
			b.note("Docker Hub's account is that of %s and %s", user, password)
		}
		hub.Username, hub.Password = variable(user), variable(password)
		return hub, nil
	case user == "DOCKER_USER":
		return hub, &fault.Error{Place: user, What: "DOCKER_PASSWORD is missing", Fix: "set both, or neither"}
	case password == "DOCKER_PASSWORD":
		return hub, &fault.Error{Place: password, What: "DOCKER_USER is missing", Fix: "set both, or neither"}
	case user != "":
		b.plan.Warnings = append(b.plan.Warnings, fmt.Sprintf("%s is not used for Docker Hub, since %s is not set", user,
			strings.TrimRight(user, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")+"PASSWORD"))
	case password != "":
		b.plan.Warnings = append(b.plan.Warnings, fmt.Sprintf("%s is not used for Docker Hub, since %s is not set", password,
			strings.TrimRight(password, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")+"USERNAME"))
	}
	hub.Username = plan.Source{Kind: plan.FromSSM, Name: "DOCKER_HUB_ID"}
	hub.Password = plan.Source{Kind: plan.FromSSM, Name: "DOCKER_HUB_PASSWORD"}
	hub.Assumed = true
	return hub, nil
}

// logins puts Docker Hub first.
func (b *resolver) logins() error {
	hub, err := b.hub()
	if err != nil {
		return err
	}
	b.plan.Logins = []plan.Login{hub}
	seen := map[string]bool{}
	for _, l := range b.config.logins {
		host := plan.CanonicalHost(l.host)
		if host == plan.DockerHub {
			return &fault.Error{Place: l.place, What: "the account for Docker Hub belongs under docker_hub",
				Fix: "move it there"}
		}
		if seen[host] {
			return &fault.Error{Place: l.place, What: "duplicate registry " + host}
		}
		seen[host] = true
		b.plan.Logins = append(b.plan.Logins, plan.Login{Host: host, Username: l.username, Password: l.password})
	}
	return nil
}
