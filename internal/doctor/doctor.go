// Package doctor makes the checks that a run depends on, without changing anything.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/credentials"
	"github.com/ecsbuild/ecsbuild/internal/diagnose"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// A Verdict is the outcome of a check.
type Verdict string

// The verdicts of doctor.
const (
	OK         Verdict = "ok"
	Warning    Verdict = "warning"
	Failure    Verdict = "failure"
	NotChecked Verdict = "not checked"
)

// A Check is one line of doctor, with what to do about it.
type Check struct {
	Name    string             `json:"check"`
	Verdict Verdict            `json:"verdict"`
	Text    string             `json:"text"`
	Found   []diagnose.Finding `json:"findings,omitempty"`
}

// Connect connects to an engine; note hears what there is to say of that.
type Connect func(ctx context.Context, note progress.NoteFunc) (*builder.Engine, error)

// Options is what doctor looks at.
type Options struct {
	Plan   *plan.Plan
	Source credentials.Source
	Facts  diagnose.Facts

	NoEngine error // why there are none of the next two, nil where there are
	Engines  []Connect
	Fleet    func(context.Context) (pipeline.Engine, error) // all of them as one, where there are several

	Warnings []string // found before: what docker's configuration has of mistakes
	Files    error    // files of the run that cannot be written, nil for none
}

// Run makes every check that a run depends on, side by side where it can,
// and returns them in a fixed order. It changes nothing and uploads nothing.
func (p Options) Run(ctx context.Context) []Check {
	files, dockerfiles := p.dockerfiles()
	groups := [4][]Check{2: dockerfiles}
	var wg sync.WaitGroup
	wg.Go(func() { groups[0] = p.account(ctx, files) })
	wg.Go(func() { groups[1] = p.engines(ctx) })
	wg.Go(func() { groups[3] = p.services(ctx) })
	wg.Wait()
	out := []Check{{Name: "configuration", Verdict: OK, Text: p.configuration()}}
	for _, w := range append(p.Warnings, p.Plan.Warnings...) {
		out = append(out, Check{Name: "configuration", Verdict: Warning, Text: w})
	}
	if p.Files != nil {
		out = append(out, p.failed("files", p.Files))
	}
	for _, g := range groups {
		out = append(out, g...)
	}
	return out
}

func (p Options) configuration() string {
	from := "the environment"
	if p.Plan.File != "" {
		from = p.Plan.File
	}
	var images []string
	for _, img := range p.Plan.Images {
		images = append(images, img.Name()+" to "+img.Repository+":"+img.Tags[0])
	}
	return "from " + from + ": " + strings.Join(images, ", ")
}

// failed turns an error into a check, with the diagnosis of a run.
func (p Options) failed(name string, err error) Check {
	found := diagnose.Explain(err, p.Facts)
	return Check{Name: name, Verdict: Failure, Text: found[0].What, Found: found}
}

func (p Options) account(ctx context.Context, files dockerfile.Files) []Check {
	a, err := p.Source.AWS(ctx)
	if err != nil {
		return []Check{p.failed("aws", err)}
	}
	var out []Check
	who, err := a.CallerIdentity(ctx)
	if err != nil {
		return []Check{p.failed("aws", err)}
	}
	out = append(out, Check{Name: "aws", Verdict: OK, Text: who + " in " + a.Region()})
	src := p.Source
	var said []string
	warned := false
	src.Note = func(severity progress.Severity, text string) {
		said, warned = append(said, text), warned || severity == progress.Warning
	}
	src.Accounts.Note = src.Note
	creds, err := src.FromAWS(ctx)
	if err != nil {
		return append(out, p.failed("credentials", err))
	}
	defer creds.Registry.Close()
	out = append(out, Check{Name: "ecr", Verdict: OK, Text: "logged in to " + creds.Registry.Host.Name})
	out = append(out, p.repositories(ctx, a, creds, who)...)
	actions := "ecr:InitiateLayerUpload, ecr:UploadLayerPart, ecr:CompleteLayerUpload and ecr:PutImage"
	if p.Plan.Public {
		actions = strings.ReplaceAll(actions, "ecr:", "ecr-public:")
	}
	out = append(out, Check{Name: "push", Verdict: NotChecked, Text: actions +
		", which cannot be tried without an upload"})
	for _, img := range p.Plan.Images {
		if img.OnImmutable == plan.FailTaken { // as a run asks before it builds
			if err := a.CheckTagsFree(ctx, p.Plan.Account, img); err != nil {
				out = append(out, p.failed("tags of "+img.Name(), err))
			}
		}
	}
	if n := len(p.Source.Named()); n > 0 {
		out = append(out, Check{Name: "parameters", Verdict: OK,
			Text: fmt.Sprintf("%d parameters and secrets are there and decrypt", n)})
	}
	hub, err := pipeline.CheckHub(ctx, p.Plan, files, creds, p.Source.Agent)
	if err != nil {
		return append(out, p.failed("docker hub", err))
	}
	c := Check{Name: "docker hub", Verdict: OK, Text: hub.Text}
	if hub.Asked && len(said) > 0 {
		c.Text = strings.Join(append(said, c.Text), "; ")
	}
	if hub.Warning || hub.Asked && warned {
		c.Verdict = Warning
	}
	return append(out, c)
}

// tags says whether the tags of a repository may move, and, where they may
// not, whether the ones of this run are taken.
func (p Options) tags(ctx context.Context, a *aws.Client, img plan.Image, title string, m aws.Mutability) Check {
	c := Check{Name: title, Verdict: OK, Text: "it exists; its tags are " + strings.ToLower(m.String())}
	if !m.Immutable() {
		return c
	}
	var taken *registry.TagTakenError
	switch err := a.CheckTagsFree(ctx, p.Plan.Account, img); {
	case errors.As(err, &taken):
		c.Verdict = Warning
		c.Text += "; " + taken.Tag + " is taken, so that a run which builds another image fails at its end"
		c.Found = []diagnose.Finding{{Do: []string{"give the build a tag of its own (IMAGE_TAG, such as the commit)"}}}
	case err != nil:
		c.Text += "; whether " + img.Tags[0] + " is taken was not checked, for which ecr:DescribeImages is not granted"
	default:
		c.Text += ", and those of this run are free"
	}
	return c
}

// repositories looks at each with what a push needs anyway, and, where
// ecr:DescribeRepositories is granted, whether it exists and lets tags move.
// The caller is an ARN.
func (p Options) repositories(ctx context.Context, a *aws.Client, creds *pipeline.Backends,
	caller string) (out []Check) {
	seen := map[string]bool{}
	for _, img := range p.Plan.Images {
		name := img.Repository
		if seen[name] {
			continue
		}
		seen[name] = true
		title := "repository " + name
		err := creds.Registry.Repository(name).CanRead(ctx)
		missed := registry.IsMissing(err)
		if err != nil && !(img.Create != nil && missed) {
			out = append(out, p.failed(title, err))
			continue
		}
		if p.Plan.Public {
			out = append(out, Check{Name: title, Verdict: NotChecked,
				Text: "whether it exists in ECR Public, which a run learns in its first second; its tags may always be moved"})
			continue
		}
		// What a registry does by itself can be asked of the caller's own alone.
		own := strings.Contains(caller, ":"+creds.Registry.Host.Account()+":")
		if own {
			out = append(out, signing(ctx, a, name)...)
		}
		described, err := a.Mutability(ctx, creds.Registry.Host.Account(), name)
		var missing *aws.MissingError
		switch {
		case img.Create != nil && (errors.As(err, &missing) || missed):
			out = append(out, Check{Name: title, Verdict: OK, Text: "does not exist; a run creates it"})
		case err == nil:
			out = append(out, p.tags(ctx, a, img, title, described))
		case errors.As(err, &missing) && own && createdOnPush(ctx, a, name):
			out = append(out, Check{Name: title, Verdict: OK,
				Text: "does not exist; the first push makes it, by a repository creation template"})
		case errors.As(err, &missing):
			found := diagnose.Finding{What: fmt.Sprintf("the repository %s does not exist in %s", name,
				creds.Registry.Host.Name), Do: p.Facts.CreateRepository(name), Exit: diagnose.ExitOther}
			out = append(out, Check{Name: title, Verdict: Failure, Text: found.What, Found: []diagnose.Finding{found}})
		default:
			out = append(out, Check{Name: title, Verdict: NotChecked,
				Text: "ecr:DescribeRepositories is not granted, and need not be; a run learns whether it exists in its first second"})
		}
	}
	return out
}

func createdOnPush(ctx context.Context, a *aws.Client, repository string) bool {
	created, _ := a.CreatedOnPush(ctx, repository) // refused: then it is missing, as far as anybody knows
	return created
}

// signing says which permission a push needs where the registry signs images by itself; nothing
// where it does not, or where that cannot be known.
func signing(ctx context.Context, a *aws.Client, repository string) []Check {
	profiles, _ := a.SigningProfiles(ctx, repository)
	if len(profiles) == 0 {
		return nil
	}
	return []Check{{Name: "signing of " + repository, Verdict: NotChecked,
		Text: "ECR signs what is pushed there, for which the role needs signer:SignPayload on " +
			strings.Join(profiles, " and ")}}
}

func (p Options) dockerfiles() (dockerfile.Files, []Check) {
	var warnings []string
	files, err := pipeline.CheckDockerfiles(p.Plan, func(image, text string) {
		warnings = append(warnings, image+": "+text)
	})
	switch {
	case err != nil:
		return files, []Check{p.failed("dockerfiles", err)}
	case len(warnings) > 0:
		return files, []Check{{Name: "dockerfiles", Verdict: Warning, Text: strings.Join(warnings, "; ")}}
	}
	return files, []Check{{Name: "dockerfiles", Verdict: OK,
		Text: fmt.Sprintf("%d parse and have their targets", len(p.Plan.Images))}}
}

func (p Options) services(ctx context.Context) []Check {
	named := false
	for _, d := range p.Plan.Definitions {
		named = named || d.Service != nil
	}
	if !named {
		return []Check{{Name: "service", Verdict: NotChecked,
			Text: "no service is named under definitions, so container names are taken as they are"}}
	}
	if err := pipeline.CheckServices(ctx, p.Source.AWS, p.Plan); err != nil {
		return []Check{p.failed("service", err)}
	}
	return []Check{{Name: "service", Verdict: OK, Text: "the task definitions have the containers"}}
}
