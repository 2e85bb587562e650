package main

import (
	"fmt"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/iampolicy"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

type policyCmd struct {
	source
	Format  string `enum:"json,cloudformation,terraform" default:"json" help:"json, cloudformation or terraform."`
	Explain bool   `help:"Say which feature needs which action, and print no policy."`
}

// Run prints the least-privilege policy of the configuration. It makes no network requests.
func (c *policyCmd) Run(a *app) error {
	c.unsetSecrets = true // what a secret holds is no matter here
	p, err := c.load(a, "", engineFlag{})
	if err != nil {
		return err
	}
	files, _ := dockerfile.ReadAll(p.Images)
	for _, img := range p.Images {
		if files[img.Name()] == nil && !plan.Remote(img.Build.Context) {
			_ = a.lines(a.stderr, "ecsbuild: warning: "+img.Name()+
				": the policy lacks base images in ECR, since its Dockerfile cannot be parsed")
		}
	}
	needs := iampolicy.Needs(p, files, callerAccount(a.getenv))
	if !c.Explain {
		return iampolicy.Write(a.stdout, needs, c.Format)
	}
	c.print(a, needs)
	if offers := iampolicy.Offers(needs); len(offers) > 0 {
		fmt.Fprint(a.stdout, "\nNot in the policy, since most runs do without them:\n\n")
		c.print(a, offers)
	}
	return nil
}

func (c *policyCmd) print(a *app, needs []iampolicy.Need) {
	for _, n := range needs {
		fmt.Fprintf(a.stdout, "%s\n  for %s\n", strings.Join(n.Actions, ", "), n.Feature)
		for _, r := range n.Resources {
			fmt.Fprintf(a.stdout, "  on  %s\n", r)
		}
	}
}
