package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/awstest"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/credentials"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/enginetest"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
)

var rig *awstest.Rig

func TestMain(m *testing.M) { os.Exit(awstest.Main(func(r *awstest.Rig) { rig = r }, m.Run)) }

// options are those of a plan that is well.
func options(t *testing.T) *Options {
	t.Helper()
	if err := rig.Reset(); err != nil {
		t.Fatal(err)
	}
	rig.AddRepository(awstest.Account, "shop", false)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM php:8\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &plan.Plan{
		Directory: dir, Region: rig.Region,
		Images: []plan.Image{{Containers: []string{"web"}, Repository: "shop", Tags: []string{"v1"},
			Build: plan.Build{Context: dir, Dockerfile: filepath.Join(dir, "Dockerfile")}}},
	}
	docker, _ := (&enginetest.Engine{Version: "20.10.24"}).Start(t)
	return &Options{
		Plan: p,
		Source: credentials.Source{Plan: p, AWS: func(ctx context.Context) (*aws.Client, error) { return aws.Load(ctx, "") },
			Agent:    "test",
			Accounts: &credentials.Accounts{Masked: &redact.Set{}}, Masked: &redact.Set{}},
		Engines: []Connect{
			func(ctx context.Context, _ progress.NoteFunc) (*builder.Engine, error) {
				return builder.Connect(ctx, endpoint.Endpoint{Docker: docker})
			}},
	}
}

// verdicts returns "verdict name" of each check, and checks that a failure has a finding.
func verdicts(t *testing.T, checks []Check) (out []string) {
	t.Helper()
	for _, c := range checks {
		out = append(out, string(c.Verdict)+" "+c.Name)
		if c.Text == "" || c.Verdict == Failure && (len(c.Found) == 0 || c.Found[0].Exit == 0) {
			t.Errorf("%+v says too little", c)
		}
	}
	return out
}

func text(checks []Check, name string) string {
	for _, c := range checks {
		if c.Name == name {
			return c.Text
		}
	}
	return ""
}

func TestWell(t *testing.T) {
	o := options(t)
	checks := o.Run(t.Context())
	want := []string{"ok configuration", "ok aws", "ok ecr", "not checked repository shop", "not checked push",
		"ok docker hub", "ok engine", "ok proxy", "ok disk", "ok dockerfiles", "not checked service"}
	if diff := cmp.Diff(want, verdicts(t, checks)); diff != "" {
		t.Error(diff)
	}
	if got := text(checks, "docker hub"); !strings.Contains(got, "anonymously; 100 of 100 pulls are left") {
		t.Error(got)
	}
}

func TestGrantedMore(t *testing.T) {
	o := options(t)
	for _, action := range []string{"ecr:DescribeRepositories", "ecs:DescribeServices", "ecs:DescribeTaskDefinition"} {
		rig.Allow(action)
	}
	rig.AddRepository(awstest.Account, "fixed", true)
	rig.SetService("prod", "shop", "web")
	rig.SetParameter("P", "v")
	rig.HubPullsLeft(0)
	o.Warnings, o.Plan.Warnings = []string{"docker's own"}, []string{"the plan's"}
	o.Plan.Images[0].Build.Secrets = map[string]plan.Source{"p": {Kind: plan.FromSSM, Name: "P"}}
	o.Plan.Images[0].Build.ShmSize = 1
	o.Plan.Images[0].Build.Args = map[string]string{"TYPO": "1"}
	fixed := o.Plan.Images[0]
	fixed.ID, fixed.Containers, fixed.Repository = "", []string{"fixed"}, "fixed"
	o.Plan.Images = append(o.Plan.Images, fixed)
	o.Plan.Definitions = []plan.Definitions{{Entries: []plan.Entry{{Container: "web", Image: "web"}},
		Service: &plan.Service{Cluster: "prod", Name: "shop"}}}
	checks := o.Run(t.Context())
	want := []string{"ok configuration", "warning configuration", "warning configuration", "ok aws", "ok ecr",
		"ok repository shop", "ok repository fixed", "not checked push", "ok parameters",
		"warning docker hub", "ok engine", "warning image web", "warning image fixed", "ok proxy", "ok disk", "warning dockerfiles", "ok service"}
	if diff := cmp.Diff(want, verdicts(t, checks)); diff != "" {
		t.Error(diff)
	}
	if got := text(checks, "repository fixed"); !strings.Contains(got,
		"its tags are immutable; whether v1 is taken was not checked") {
		t.Error(got)
	}
	rig.Allow("ecr:DescribeImages")
	if got := text(o.Run(t.Context()), "repository fixed"); !strings.Contains(got, "and those of this run are free") {
		t.Error(got)
	}
}

// TestRegistrySettings: what a registry does by itself.
func TestRegistrySettings(t *testing.T) {
	o := options(t)
	for _, action := range []string{"ecr:DescribeRepositories", "ecr:DescribeRepositoryCreationTemplates",
		"ecr:GetSigningConfiguration"} {
		rig.Allow(action)
	}
	o.Plan.Images[0].Repository = "team/new"
	if got := text(o.Run(t.Context()), "repository team/new"); !strings.Contains(got, "does not exist in") {
		t.Error(got)
	}
	rig.CreateOnPush("team")
	profile := "arn:aws:signer:ap-northeast-1:123456789012:/signing-profiles/release"
	rig.Sign("*/new", profile)
	checks := o.Run(t.Context())
	if got := text(checks, "repository team/new"); got !=
		"does not exist; the first push makes it, by a repository creation template" {
		t.Error(got)
	}
	if got := text(checks, "signing of team/new"); !strings.HasSuffix(got,
		"the role needs signer:SignPayload on "+profile) {
		t.Error(got)
	}
	o.Plan.Account = "999999999999"
	if got := text(o.Run(t.Context()), "repository team/new"); strings.Contains(got, "template") {
		t.Errorf("another account's: %s", got)
	}
	o.Plan.Account = ""
	rig.Sign("*/old", profile)
	if got := text(o.Run(t.Context()), "signing of team/new"); got != "" {
		t.Error(got)
	}
}

func TestIll(t *testing.T) {
	o := options(t)
	rig.Allow("ecr:DescribeRepositories")
	o.Files = errors.New("a file cannot be written")
	o.Plan.Images[0].Repository, o.Plan.Images[0].OnImmutable = "gone", plan.FailTaken
	o.Plan.Images[0].Build.Platforms = []string{"linux/amd64", "linux/arm64"}
	o.Plan.Images[0].Build.Target = "prod"
	o.Plan.Definitions = []plan.Definitions{{Entries: []plan.Entry{{Container: "web", Image: "web"}},
		Service: &plan.Service{Cluster: "prod", Name: "shop"}}}
	want := []string{"ok configuration", "failure files", "ok aws", "ok ecr", "failure repository gone",
		"not checked push", "failure tags of web", "ok docker hub", "ok engine", "failure image web", "ok proxy", "ok disk", "failure dockerfiles", "failure service"}
	if diff := cmp.Diff(want, verdicts(t, o.Run(t.Context()))); diff != "" {
		t.Error(diff)
	}
	rig.HubAccount("u", "p")
	o.Source.Plan.Logins = []plan.Login{{Host: plan.DockerHub,
		Username: plan.Source{Kind: plan.FromEnv, Value: plan.NewSecret("u")}, Password: plan.Source{Kind: plan.FromEnv,
			Value: plan.NewSecret("wrong")}}}
	checks := o.Run(t.Context())
	if got := text(checks, "docker hub"); !strings.Contains(got, "does not accept the account u") {
		t.Error(got)
	}
	rig.Deny("ecr:BatchCheckLayerAvailability")
	if got := text(o.Run(t.Context()), "repository gone"); !strings.Contains(got,
		"is not allowed to call ecr:BatchCheckLayerAvailability") {
		t.Error(got)
	}
	rig.Allow("ecr:BatchCheckLayerAvailability")
	o.Plan.Images[0].Create = &plan.Creation{}
	if got := text(o.Run(t.Context()), "repository gone"); got != "does not exist; a run creates it" {
		t.Error(got)
	}
	o.Plan.Images[0].Create = nil
	rig.Deny("ecr:GetAuthorizationToken")
	o.Engines[0] = func(context.Context, progress.NoteFunc) (*builder.Engine, error) {
		return nil, errors.New("no engine")
	}
	want = []string{"ok configuration", "failure files", "ok aws", "failure credentials", "failure engine",
		"failure dockerfiles", "failure service"}
	if diff := cmp.Diff(want, verdicts(t, o.Run(t.Context()))); diff != "" {
		t.Error(diff)
	}
	o.Source.AWS = func(context.Context) (*aws.Client, error) { return nil, errors.New("no region") }
	if got := verdicts(t, o.Run(t.Context())); got[2] != "failure aws" {
		t.Error(got)
	}
}
