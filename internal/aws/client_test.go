package aws

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

var rig *awstest.Rig

func TestMain(m *testing.M) { os.Exit(awstest.Main(func(r *awstest.Rig) { rig = r }, m.Run)) }

// client returns one whose world is fresh.
func client(t *testing.T) *Client {
	t.Helper()
	if err := rig.Reset(); err != nil {
		t.Fatal(err)
	}
	c, err := Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLoad(t *testing.T) {
	c := client(t)
	if arn, err := c.CallerIdentity(t.Context()); err != nil || arn != awstest.Role || c.Region() != rig.Region {
		t.Errorf("%s in %s, %v", arn, c.Region(), err)
	}
	t.Setenv("AWS_REGION", "")
	t.Setenv("HOME", t.TempDir())
	_, err := Load(t.Context(), "")
	var e *fault.Error
	if !errors.As(err, &e) || !strings.Contains(e.Fix, "AWS_DEFAULT_REGION") {
		t.Errorf("%v", err)
	}
	t.Setenv("AWS_PROFILE", "nobody")
	if _, err := Load(t.Context(), "us-east-1"); !errors.As(err, &e) || !strings.Contains(e.What, "does not load") {
		t.Errorf("%v", err)
	}
}

// TestToken: one is asked for, kept while it is good, and renewed when told so.
func TestToken(t *testing.T) {
	c := client(t)
	var passwords []string
	last := ""
	for _, refused := range []bool{false, false, true} {
		expired := "another one, which somebody else has renewed"
		if refused {
			expired = last
		}
		token, err := c.Token(t.Context(), expired)
		if err != nil || token.Username != "AWS" || token.Host.Name != rig.Host(awstest.Account) {
			t.Fatalf("%+v, %v", token, err)
		}
		last = token.Password.Reveal()
		passwords = append(passwords, last)
	}
	if passwords[0] != passwords[1] || passwords[1] == passwords[2] || len(rig.Requests()) != 2 {
		t.Errorf("%d requests", len(rig.Requests()))
	}
	rig.Deny("ecr:GetAuthorizationToken")
	_, err := c.Token(t.Context(), last)
	var e *Error
	if !errors.As(err, &e) || !e.IsDenied() || e.Action != "ecr:GetAuthorizationToken" || e.IsKMS() ||
		CallerARN(e.Message()) != awstest.Role {
		t.Errorf("%v", err)
	}
}

func parameter(name string) plan.Source { return plan.Source{Kind: plan.FromSSM, Name: name} }

// TestFetch reads parameters in batches and secrets, whole or by key.
func TestFetch(t *testing.T) {
	c := client(t)
	rig.Allow("secretsmanager:GetSecretValue")
	var sources []plan.Source
	for i := range 12 {
		name := fmt.Sprintf("p%02d", i)
		rig.SetParameter(name, "value of "+name)
		sources = append(sources, parameter(name), parameter(name))
	}
	rig.SetSecret("json", `{"user":"u","number":5}`)
	rig.SetSecret("plain", "s")
	secret := func(name, key string) plan.Source {
		return plan.Source{Kind: plan.FromSecretsManager, Name: name, Key: key}
	}
	env := plan.Source{Kind: plan.FromEnv, Name: "E", Value: plan.NewSecret("e")}
	sources = append(sources, secret("json", "user"), secret("json", "number"), secret("json", ""), secret("plain", ""),
		env)
	values, err := c.Fetch(t.Context(), sources)
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[plan.Source]string{
		parameter("p00"): "value of p00", parameter("p11"): "value of p11", secret("json", "user"): "u", secret("json",
			"number"): "5",
		secret("json", ""): `{"user":"u","number":5}`, secret("plain", ""): "s", env: "e",
	} {
		if got, ok := values.Of(source); !ok || got.Reveal() != want {
			t.Errorf("%s: %q", source, got.Reveal())
		}
	}
	var batches int
	for _, r := range rig.Requests() {
		if r.Action == "ssm:GetParameters" {
			batches++
		}
	}
	if batches != 2 {
		t.Errorf("%d batches for 12 parameters", batches)
	}
	if _, ok := values.Of(parameter("other")); ok {
		t.Error("a value that nobody asked for")
	}
	for name, tt := range map[string]struct {
		source  plan.Source
		missing []string
		why     string
	}{
		"a parameter":         {parameter("gone"), []string{"gone"}, ""},
		"a secret":            {secret("gone", ""), []string{"gone"}, ""},
		"a key":               {secret("json", "pass"), []string{"json#pass"}, "its keys are number, user"},
		"a key of plain text": {secret("plain", "k"), []string{"plain#k"}, "the secret is not a JSON object"},
	} {
		_, err := c.Fetch(t.Context(), []plan.Source{tt.source})
		var e *MissingError
		if !errors.As(err, &e) || cmp.Diff(tt.missing, e.Names) != "" || e.Why != tt.why || e.Region != rig.Region ||
			!strings.Contains(e.Error(), tt.missing[0]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rig.Deny("ssm:GetParameters")
	rig.Deny("secretsmanager:GetSecretValue")
	for _, s := range []plan.Source{parameter("p00"), secret("plain", "")} {
		_, err := c.Fetch(t.Context(), []plan.Source{s})
		var e *Error
		if !errors.As(err, &e) || !e.IsDenied() || !slices.Contains(e.Resources, s.Name) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestKMS(t *testing.T) {
	c := client(t)
	rig.SetParameter("p", "v")
	rig.RefuseKMS()
	_, err := c.Fetch(t.Context(), []plan.Source{parameter("p")})
	var e *Error
	if !errors.As(err, &e) || !e.IsKMS() {
		t.Errorf("%v", err)
	}
}

func img(repository string, tags ...string) plan.Image {
	return plan.Image{Containers: []string{"web"}, Repository: repository, Tags: tags,
		Create: &plan.Creation{Immutable: true, LifecyclePolicy: "{}"}}
}

// TestCreateRepository: one that already exists is fine.
func TestCreateRepository(t *testing.T) {
	c := client(t)
	if err := c.CreateRepository(t.Context(), "", img("shop")); err == nil {
		t.Error("it is made without permission")
	}
	rig.Allow("ecr:CreateRepository")
	err := c.CreateRepository(t.Context(), awstest.Account, img("shop"))
	var e *Error
	if !errors.As(err, &e) || e.Action != "ecr:PutLifecyclePolicy" {
		t.Errorf("%v", err)
	}
	rig.Allow("ecr:PutLifecyclePolicy")
	for _, name := range []string{"shop", "shop2"} {
		if err := c.CreateRepository(t.Context(), "", img(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	rig.Allow("ecr:DescribeRepositories")
	if m, err := c.Mutability(t.Context(), awstest.Account, "shop2"); err != nil || !m.Immutable() ||
		m.String() != "IMMUTABLE" {
		t.Errorf("%v, %v", m, err)
	}
}

// TestCreateRepositoryExcept: some tags of an immutable repository may move.
func TestCreateRepositoryExcept(t *testing.T) {
	c := client(t)
	rig.Allow("ecr:CreateRepository")
	rig.Allow("ecr:DescribeRepositories")
	shop := img("shop3")
	shop.Create = &plan.Creation{Immutable: true, Except: []string{"latest", "buildcache-*"}}
	if err := c.CreateRepository(t.Context(), "", shop); err != nil {
		t.Fatal(err)
	}
	m, err := c.Mutability(t.Context(), awstest.Account, "shop3")
	for tag, want := range map[string]bool{"v1": true, "latest": false, "buildcache-web": false, "latest2": true} {
		if err != nil || m.immutable(tag) != want || shop.Create.IsImmutable(tag) != want {
			t.Errorf("%s: %v, %v", tag, m.immutable(tag), err)
		}
	}
}

func TestMutability(t *testing.T) {
	c := client(t)
	rig.AddRepository(awstest.Account, "shop", false)
	if _, err := c.Mutability(t.Context(), "", "shop"); err == nil {
		t.Error("it is told without permission")
	}
	rig.Allow("ecr:DescribeRepositories")
	if m, err := c.Mutability(t.Context(), "", "shop"); err != nil || m.Immutable() {
		t.Errorf("%v, %v", m, err)
	}
	var missing *MissingError
	if _, err := c.Mutability(t.Context(), "", "gone"); !errors.As(err, &missing) {
		t.Errorf("%v", err)
	}
}

// push puts a manifest under a tag of the rig's registry.
func push(t *testing.T, c *Client, repository, tag string) {
	t.Helper()
	token, err := c.Token(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	client := registry.NewClient(token.Host, func(context.Context, string) (string, string, error) {
		return token.Username, token.Password.Reveal(), nil
	}, "test", nil)
	defer client.Close()
	repo := client.Repository(repository)
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`, digest.FromBytes(config), len(config))
	if err := errors.Join(image.PutBytes(t.Context(), repo, digest.FromBytes(config), config),
		repo.PutManifest(t.Context(), tag, "application/vnd.oci.image.manifest.v1+json", []byte(manifest))); err != nil {
		t.Fatal(err)
	}
}

// TestTags: which tags are there, by whichever action is granted.
func TestTags(t *testing.T) {
	c := client(t)
	rig.AddRepository(awstest.Account, "fixed", true)
	rig.AddRepository(awstest.Account, "shop", false)
	push(t, c, "fixed", "v1")
	images := []plan.Image{img("fixed", "v1", "v2"), img("shop", "v1")}
	refused := func(context.Context, string, string) (digest.Digest, error) { return "", errors.New("refused") }
	if states := c.TagStates(t.Context(), refused, "", images); states != nil {
		t.Errorf("%v without permission", states)
	}
	if c.TagStates(t.Context(), refused, "", nil) != nil {
		t.Error("states of no image")
	}
	if err := c.CheckTagsFree(t.Context(), "", images[1]); err == nil {
		t.Error("it is told without permission")
	}
	rig.Allow("ecr:DescribeImages")
	states := c.TagStates(t.Context(), refused, awstest.Account, images)
	if s := states["fixed:v1"]; s.Digest == "" || s.Immutable {
		t.Errorf("%+v", states)
	}
	rig.Allow("ecr:DescribeRepositories")
	states = c.TagStates(t.Context(), refused, "", images)
	if s := states["fixed:v1"]; s.Digest == "" || !s.Immutable || states["fixed:v2"].Digest != "" ||
		states["shop:v1"].Immutable {
		t.Errorf("%+v", states)
	}
	look := func(_ context.Context, repository, tag string) (digest.Digest, error) {
		if repository == "shop" {
			return "", errors.New("refused")
		}
		return "sha256:00", nil
	}
	if states := c.TagStates(t.Context(), look, "", images); states["fixed:v2"].Digest != "sha256:00" || len(states) != 2 {
		t.Errorf("%+v", states)
	}
	var taken *registry.TagTakenError
	if err := c.CheckTagsFree(t.Context(), "", images[0]); !errors.As(err, &taken) || taken.Tag != "v1" {
		t.Errorf("%v", err)
	}
	if err := c.CheckTagsFree(t.Context(), awstest.Account, images[1]); err != nil {
		t.Error(err)
	}
}

func TestContainers(t *testing.T) {
	c := client(t)
	rig.SetService("prod", "shop", "app", "nginx")
	service := Live{Cluster: "prod", Service: "shop"}
	if _, _, err := c.Containers(t.Context(), service); err == nil {
		t.Error("it is told without permission")
	}
	rig.Allow("ecs:DescribeServices")
	if _, _, err := c.Containers(t.Context(), service); err == nil {
		t.Error("it is told without permission")
	}
	rig.Allow("ecs:DescribeTaskDefinition")
	names, where, err := c.Containers(t.Context(), service)
	if err != nil || strings.Join(names, " ") != "app nginx" || !strings.Contains(where, "prod/shop") {
		t.Errorf("%v of %s, %v", names, where, err)
	}
	rig.SetService("prod", "express-web", "Main")
	if names, _, err := c.Containers(t.Context(), Live{Cluster: "prod", Service: "express-web"}); err != nil || strings.Join(names, " ") != "Main" {
		t.Errorf("%v, %v", names, err)
	}
	for _, live := range []Live{{Cluster: "prod", Service: "other"}, {TaskDefinition: "other"}} {
		var e *fault.Error
		if _, _, err := c.Containers(t.Context(), live); !errors.As(err, &e) {
			t.Errorf("%+v: %v", live, err)
		}
	}
}
