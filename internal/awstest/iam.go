package awstest

import (
	"fmt"
	"path"
)

// A Grant allows an action on resources; both may have * in them. IAM is
// case-exact, and so is this.
type Grant struct{ Action, Resource string }

// Exact is the policy of CONTRACT §2 for every repository and parameter.
func Exact() []Grant {
	var g []Grant
	for _, a := range []string{"ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload",
		"ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage", "ssm:GetParameters"} {
		g = append(g, Grant{a, "*"})
	}
	return g
}

// SetPolicy replaces what is granted.
func (r *Rig) SetPolicy(g []Grant) { r.mu.Lock(); r.policy = g; r.mu.Unlock() }

// Allow adds a grant for every resource.
func (r *Rig) Allow(action string) {
	r.mu.Lock()
	r.policy = append(r.policy, Grant{action, "*"})
	r.mu.Unlock()
}

// Deny takes an action away.
func (r *Rig) Deny(action string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var kept []Grant
	for _, g := range r.policy {
		if g.Action != action {
			kept = append(kept, g)
		}
	}
	r.policy = kept
}

func (r *Rig) allowed(action, resource string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.policy {
		a, _ := path.Match(g.Action, action)
		if a && (g.Resource == "*" || match(g.Resource, resource)) {
			return true
		}
	}
	return false
}

// match is IAM's: * stands for any characters, slashes too.
func match(pattern, s string) bool {
	if pattern == "" || s == "" {
		return pattern == s
	}
	switch pattern[0] {
	case '*':
		for i := 0; i <= len(s); i++ {
			if match(pattern[1:], s[i:]) || i == len(s) && len(pattern) == 1 {
				return true
			}
		}
		return len(pattern) == 1
	case '?':
		return match(pattern[1:], s[1:])
	}
	return pattern[0] == s[0] && match(pattern[1:], s[1:])
}

func refusal(action, resource string) string {
	return fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action", Role, action, resource, action)
}
