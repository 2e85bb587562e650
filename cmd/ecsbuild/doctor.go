package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/diagnose"
	"github.com/ecsbuild/ecsbuild/internal/doctor"
	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

type doctorCmd struct {
	source
	engineFlag
	JSON bool `help:"Print the checks as JSON."`
}

// exitError ends the process with a code; what there is to say has been said.
type exitError diagnose.ExitCode

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Run makes every check, and exits as a run would that met the first failure.
func (c *doctorCmd) Run(a *app) error {
	p, err := c.load(a, "", c.engineFlag)
	if err != nil && !c.JSON {
		return err
	}
	if err != nil {
		found := diagnose.Explain(err, diagnose.Facts{})
		return c.print(a, []doctor.Check{{Name: "configuration", Verdict: doctor.Failure, Text: found[0].What, Found: found}})
	}
	var warnings []string
	docker := a.dockerConfig(func(text string) { warnings = append(warnings, text) })
	checkup := doctor.Options{
		Plan:     p,
		Source:   a.credentialSource(p, docker, nil),
		Warnings: warnings,
		Files:    (&execution{app: a, cmd: &runCmd{}, plan: p}).checkFiles(),
		Facts:    a.facts(p),
	}
	s := engines{app: a, plan: p, docker: docker}
	found, err := s.find()
	checkup.NoEngine = err
	for _, n := range found {
		checkup.Engines = append(checkup.Engines, func(ctx context.Context, note progress.NoteFunc) (*builder.Engine, error) {
			s := s
			s.note = note
			return s.connect(ctx, n)
		})
	}
	checkup.Fleet = func(ctx context.Context) (pipeline.Engine, error) {
		s.note = func(progress.Severity, string) {} // which the check of each one tells
		return s.openAll(ctx, found)
	}
	return c.print(a, checkup.Run(a.ctx))
}

// print writes the checks, and ends as a run would that met the first failure.
func (c *doctorCmd) print(a *app, checks []doctor.Check) error {
	for i, check := range checks {
		checks[i].Text = a.secrets.String(check.Text)
		for j, f := range check.Found {
			check.Found[j] = f.Map(a.secrets.String)
		}
	}
	var err error
	if c.JSON {
		err = format.JSON(a.stdout, checks, "  ")
	} else {
		err = printChecks(a.stdout, checks, a.fit(), isTerminal(a.stdout) && a.getenv("NO_COLOR") == "" &&
			a.getenv("TERM") != "dumb")
	}
	if err != nil {
		return err
	}
	for _, check := range checks {
		if check.Verdict == doctor.Failure {
			return exitError(check.Found[0].Exit)
		}
	}
	return nil
}

var colours = map[doctor.Verdict]string{doctor.OK: "32", doctor.Warning: "33", doctor.Failure: "31",
	doctor.NotChecked: "2"}

func printChecks(w io.Writer, checks []doctor.Check, fit func(string) string, colour bool) error {
	var b strings.Builder
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	for _, c := range checks {
		verdict := fmt.Sprintf("%-11s", c.Verdict)
		if colour {
			verdict = "\x1b[" + colours[c.Verdict] + "m" + verdict + "\x1b[0m"
		}
		fmt.Fprintf(&b, "%s  %-*s  %s\n", verdict, width, c.Name, fit(c.Text))
		for i, f := range c.Found {
			if i > 0 {
				fmt.Fprintf(&b, "%13s%-*s  %s\n", "", width, "", fit(f.What))
			}
			var below strings.Builder
			details(&below, strings.Repeat(" ", 15+width), f)
			for line := range strings.Lines(below.String()) {
				fmt.Fprintln(&b, fit(line))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
