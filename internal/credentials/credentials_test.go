package credentials

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/awstest"
	"github.com/ecsbuild/ecsbuild/internal/dockerconfig"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

var rig *awstest.Rig

func TestMain(m *testing.M) { os.Exit(awstest.Main(func(r *awstest.Rig) { rig = r }, m.Run)) }

func ssm(name string) plan.Source { return plan.Source{Kind: plan.FromSSM, Name: name} }

// source is that of a plan whose Docker Hub account is the usual one.
func source(t *testing.T) (Source, *[]string) {
	t.Helper()
	if err := rig.Reset(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	docker, err := dockerconfig.Open(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	note := func(severity progress.Severity, text string) {
		if severity == progress.Warning {
			text = "warning: " + text
		}
		said = append(said, text)
	}
	masked := &redact.Set{}
	p := &plan.Plan{
		Logins: []plan.Login{{Host: plan.DockerHub, Username: ssm("DOCKER_HUB_ID"), Password: ssm("DOCKER_HUB_PASSWORD"),
			Assumed: true}},
		Images: []plan.Image{{Containers: []string{"web"}, Repository: "shop", Tags: []string{"v1"}, Create: &plan.Creation{},
			Build: plan.Build{Secrets: map[string]plan.Source{"npm": ssm("NPM")}}}},
	}
	return Source{Plan: p, AWS: func(ctx context.Context) (*aws.Client, error) { return aws.Load(ctx, "") }, Agent: "test",
		Note: note, Masked: masked,
		Accounts: &Accounts{Docker: docker, Note: note, Masked: masked}, Cache: t.TempDir()}, &said
}

func TestFromAWS(t *testing.T) {
	s, said := source(t)
	rig.SetParameter("NPM", "npm-token")
	rig.SetParameter("DOCKER_HUB_ID", "hubuser\n")
	rig.SetParameter("DOCKER_HUB_PASSWORD", "hubpass")
	b, err := s.FromAWS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b.Registry.Host.Name != rig.Host(awstest.Account) || b.Secrets(s.Plan.Images[0])["npm"].Reveal() != "npm-token" ||
		b.ECR == nil {
		t.Errorf("%+v", b)
	}
	if got := s.Masked.String("npm-token hubpass " + "aHVidXNlcjpodWJwYXNz"); strings.Contains(got, "npm") ||
		strings.Contains(got, "hub") || strings.Contains(got, "aHV") {
		t.Error(got)
	}
	for host, want := range map[string]string{"docker.io": "hubuser", "index.docker.io": "hubuser",
		rig.Host(awstest.Account): "AWS", rig.Host("210987654321"): "AWS", "ghcr.io": ""} {
		a, ok := b.Login(t.Context(), host)
		if a.Username != want || ok != (want != "") {
			t.Errorf("%s: %s", host, a)
		}
		if used, ok := s.Accounts.Used(host); used.Username != want || ok != (want != "") {
			t.Errorf("%s was asked with %s", host, used)
		}
	}
	if why, err := s.Accounts.Anonymous(); why != "" || err != nil {
		t.Error(why, err)
	}
	if len(*said) != 1 || !strings.Contains((*said)[0], "has white space around it") {
		t.Errorf("%q", *said)
	}
	if err := b.ECR.CreateRepository(t.Context(), s.Plan.Images[0]); err == nil {
		t.Error("a repository is made without permission")
	}
	if err := b.ECR.CheckTagsFree(t.Context(), s.Plan.Images[0]); err == nil {
		t.Error("tags are told without permission")
	}
	rig.AddRepository(awstest.Account, "shop", false)
	rig.Allow("ecr:BatchGetImage")
	if states := b.ECR.TagStates(t.Context(), s.Plan.Images); len(states) != 1 || states["shop:v1"].Digest != "" {
		t.Errorf("%v", states)
	}
}

// TestWithoutHub: without the usual parameters docker's own account is used, or none,
// and a line says why.
func TestWithoutHub(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func()
		want    string
	}{
		"none there": {func() {}, "the parameters DOCKER_HUB_ID and DOCKER_HUB_PASSWORD do not exist in ap-northeast-1"},
		"KMS": {func() {
			rig.SetParameter("DOCKER_HUB_ID", "u")
			rig.SetParameter("DOCKER_HUB_PASSWORD", "p")
			rig.RefuseKMS()
		}, "KMS refused to decrypt DOCKER_HUB_PASSWORD"},
		"refused": {func() { rig.Deny("ssm:GetParameters") },
			"ssm:GetParameters was refused for DOCKER_HUB_ID and DOCKER_HUB_PASSWORD"},
	} {
		s, said := source(t)
		s.Plan.Images[0].Build.Secrets = nil
		tt.prepare()
		b, err := s.FromAWS(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, ok := b.Login(t.Context(), plan.DockerHub); ok {
			t.Errorf("%s: there is an account", name)
		}
		why, cause := s.Accounts.Anonymous()
		if why != tt.want || cause == nil || len(*said) != 1 ||
			(*said)[0] != "warning: base images are pulled from Docker Hub anonymously: "+tt.want {
			t.Errorf("%s: %q, %q", name, why, *said)
		}
	}
	s, said := source(t)
	s.Plan.Images[0].Build.Secrets = nil
	if err := s.Accounts.Docker.Store(t.Context(), plan.DockerHub,
		plan.Account{Username: "me", Password: plan.NewSecret("mine")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Accounts.Docker.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.FromAWS(t.Context()); err != nil || len(*said) != 1 ||
		!strings.Contains((*said)[0], "from Docker Hub with the account me (docker login)") {
		t.Errorf("%q, %v", *said, err)
	}
}

// TestNamedMustBeThere: what the plan names itself is no assumption.
func TestNamedMustBeThere(t *testing.T) {
	s, _ := source(t)
	var missing *aws.MissingError
	if _, err := s.FromAWS(t.Context()); !errors.As(err, &missing) || missing.Names[0] != "NPM" {
		t.Errorf("%v", err)
	}
	if named := s.Named(); len(named) != 1 || named[0].Name != "NPM" {
		t.Errorf("%v", named)
	}
	s.AWS = func(context.Context) (*aws.Client, error) { return nil, errors.New("no region") }
	if _, err := s.FromAWS(t.Context()); err == nil {
		t.Error("without AWS it goes on")
	}
}

// TestWithoutAWS: AWS is asked for what the plan names alone, and what cannot be read is a
// warning.
func TestWithoutAWS(t *testing.T) {
	host := registry.Host{Name: "127.0.0.1:5000", Plain: true}
	s, said := source(t)
	b, err := s.WithoutAWS(t.Context(), host)
	if err != nil || b.Registry.Host != host || b.ECR != nil {
		t.Fatalf("%+v, %v", b, err)
	}
	if len(*said) != 1 || !strings.HasPrefix((*said)[0], "warning: this run goes on without ssm:NPM") {
		t.Errorf("%q", *said)
	}
	if why, _ := s.Accounts.Anonymous(); !strings.Contains(why, "this run does not ask AWS") {
		t.Error(why)
	}
	rig.SetParameter("NPM", "v")
	if b, err = s.WithoutAWS(t.Context(), host); err != nil || b.Secrets(s.Plan.Images[0])["npm"].Reveal() != "v" {
		t.Errorf("%v", err)
	}
}

// TestWatch: an upload is told under the first image of its repository.
func TestWatch(t *testing.T) {
	s, _ := source(t)
	var got []string
	s.Begin = func(image string, kind report.Kind, name string, _ int64) *progress.Span {
		got = append(got, image+" "+name)
		return nil
	}
	s.watch("shop", "sha256:00", 1)
	s.watch("other", "sha256:00", 1)
	if len(got) != 1 || got[0] != "web sha256:00" {
		t.Errorf("%v", got)
	}
}

// TestTokensAreMasked: the first one and those that follow, also as registries get them.
func TestTokensAreMasked(t *testing.T) {
	s, _ := source(t)
	client, err := s.AWS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expired := ""
	for range 2 {
		token, err := s.token(t.Context(), client, expired)
		if err != nil || token.Password.Reveal() == expired {
			t.Fatalf("%v, %v", token, err)
		}
		expired = token.Password.Reveal()
		for _, text := range []string{expired, base64.StdEncoding.EncodeToString([]byte("AWS:" + expired))} {
			if got := s.Masked.String(text); got != "[redacted]" {
				t.Errorf("%s is shown", got)
			}
		}
	}
}
