package main

import (
	"fmt"

	"github.com/ecsbuild/ecsbuild/internal/config"
	"github.com/ecsbuild/ecsbuild/internal/dockerconfig"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

type loginCmd struct {
	File      string `short:"f" placeholder:"FILE" help:"Configuration file (default: ecsbuild.yml, then ecsbuild.yaml, else the environment alone)."`
	Directory string `short:"C" placeholder:"DIR" help:"Folder of the configuration (default: the working directory)."`
}

// Run writes docker's configuration: the one command that does.
func (c *loginCmd) Run(a *app) error {
	p, err := config.Load(config.Options{Directory: c.Directory, File: c.File, Environ: a.environ, LoginsOnly: true})
	if err != nil {
		return err
	}
	src := a.credentialSource(p, nil, func(severity progress.Severity, text string) {
		if severity == progress.Warning {
			text = "warning: " + text
		}
		_ = a.lines(a.stderr, "ecsbuild: "+text)
	})
	fail := func(err error) error {
		return &failure{err: err, facts: a.facts(p)}
	}
	creds, err := src.FromAWS(a.ctx)
	if err != nil {
		return fail(err)
	}
	cfg, err := dockerconfig.Open(a.getenv)
	if err != nil {
		return err
	}
	hosts := []string{creds.Registry.Host.Name}
	for _, l := range p.Logins {
		hosts = append(hosts, l.Host)
	}
	var done []string
	for _, host := range hosts {
		account, ok := creds.Login(a.ctx, host)
		if !ok {
			continue
		}
		if err := cfg.Store(a.ctx, host, account); err != nil {
			return err
		}
		done = append(done, host)
	}
	if err := cfg.Save(); err != nil {
		return err
	}
	for _, host := range done {
		fmt.Fprintln(a.stdout, host)
	}
	return nil
}
