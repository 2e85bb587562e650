package iampolicy

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// everything is a plan that needs every permission.
func everything(t *testing.T) (*plan.Plan, dockerfile.Files) {
	t.Helper()
	file, err := dockerfile.Parse([]byte("FROM 210987654321.dkr.ecr.eu-west-1.amazonaws.com/base:1\nCOPY --from=ghcr.io/x/y:1 / /\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := &plan.Plan{
		Region: "eu-central-1", Account: "123456789012",
		Logins: []plan.Login{{Host: plan.DockerHub, Username: plan.Source{Kind: plan.FromSSM, Name: "DOCKER_HUB_ID"},
			Password: plan.Source{Kind: plan.FromSecretsManager, Name: "hub", Key: "password"}}},
		Images: []plan.Image{
			{Containers: []string{"app"}, Repository: "shop/app", Create: &plan.Creation{LifecyclePolicy: "{}"},
				OnImmutable: plan.FailTaken, Build: plan.Build{
					Secrets: map[string]plan.Source{"a": {Kind: plan.FromSSM, Name: "/shop/a:3"},
						"b": {Kind: plan.FromSecretsManager, Name: "arn:aws:secretsmanager:x"}, "c": {Kind: plan.FromEnv, Name: "C"}},
					CacheFrom: []string{"type=registry,ref=123456789012.dkr.ecr.eu-central-1.amazonaws.com/cache:1", "type=gha",
						"ghcr.io/x"}, Cache: plan.CacheRegistry}},
			{Containers: []string{"web"}, Repository: "shop/web",
				Build: plan.Build{Cache: plan.CacheInline,
					CacheTo: []string{"type=registry,ref=123456789012.dkr.ecr.eu-central-1.amazonaws.com/to:1"}}},
		},
		Definitions: []plan.Definitions{{Service: &plan.Service{Cluster: "prod", Name: "shop"}}},
	}
	return p, dockerfile.Files{"app": file}
}

func TestNeeds(t *testing.T) {
	p, files := everything(t)
	got := map[string][]string{}
	for _, n := range Needs(p, files, "210000000000") {
		got[n.Sid] = append(append([]string{}, n.Actions...), n.Resources...)
		if n.Feature == "" {
			t.Errorf("%s says not what for", n.Sid)
		}
	}
	const repo = "arn:aws:ecr:eu-central-1:123456789012:repository/"
	push := []string{"ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart",
		"ecr:CompleteLayerUpload", "ecr:PutImage"}
	want := map[string][]string{
		"LogIn": {"ecr:GetAuthorizationToken", "*"},
		"Push":  append(append([]string{}, push...), repo+"shop/app", repo+"shop/web"),
		"Parameters": {"ssm:GetParameters", "arn:aws:ssm:eu-central-1:210000000000:parameter/DOCKER_HUB_ID",
			"arn:aws:ssm:eu-central-1:210000000000:parameter/shop/a"},
		"Secrets": {"secretsmanager:GetSecretValue",
			"arn:aws:secretsmanager:eu-central-1:210000000000:secret:hub-??????", "arn:aws:secretsmanager:x"},
		"Service":        {"ecs:DescribeServices", "arn:aws:ecs:eu-central-1:210000000000:service/prod/shop"},
		"TaskDefinition": {"ecs:DescribeTaskDefinition", "*"},
		"Pull": {"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", repo + "cache", repo + "shop/web",
			"arn:aws:ecr:eu-west-1:210987654321:repository/base"},
		"Create": {"ecr:CreateRepository", "ecr:PutLifecyclePolicy", repo + "shop/app"},
		"Tags":   {"ecr:DescribeImages", repo + "shop/app"},
		"Cache": append(append([]string{}, push...), "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer",
			repo+"shop/app", repo+"to"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// What nobody knows is a star.
	for _, n := range Needs(&plan.Plan{Images: []plan.Image{{Containers: []string{"a"}, Repository: "a"}}}, nil, "") {
		if n.Sid == "Push" && n.Resources[0] != "arn:aws:ecr:*:*:repository/a" {
			t.Errorf("%v", n.Resources)
		}
	}
}

func TestARN(t *testing.T) {
	s := Scope{Region: "cn-north-1", Account: "111111111111", Caller: "222222222222"}
	for got, want := range map[string]string{
		s.InRegistry("ecr", "repository/a"):                                  "arn:aws-cn:ecr:cn-north-1:111111111111:repository/a",
		s.InCaller("kms", "key/k"):                                           "arn:aws-cn:kms:cn-north-1:222222222222:key/k",
		Scope{}.InCaller("kms", "key/k"):                                     "arn:aws:kms:REGION:ACCOUNT:key/k",
		s.ParameterARN("/a/b:label"):                                         "arn:aws-cn:ssm:cn-north-1:222222222222:parameter/a/b",
		s.ParameterARN("arn:aws:ssm:us-east-1:333333333333:parameter/a/b:4"): "arn:aws:ssm:us-east-1:333333333333:parameter/a/b",
		s.serviceARN(plan.Service{Cluster: "c",
			Name: "s"}): "arn:aws-cn:ecs:cn-north-1:222222222222:service/c/s",
		s.serviceARN(plan.Service{Name: "arn:aws:ecs:s"}): "arn:aws:ecs:s",
		s.serviceARN(plan.Service{Cluster: "arn:aws:ecs:us-east-1:3:cluster/c",
			Name: "s"}): "arn:aws:ecs:us-east-1:3:service/c/s",
		s.ecrARN("123456789012.dkr.ecr.us-gov-west-1.amazonaws.com/a/b:1@sha256:0"): "arn:aws-us-gov:ecr:us-gov-west-1:123456789012:repository/a/b",
		s.ecrARN("ghcr.io/a"): "", s.ecrARN("a"): "",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestStatement(t *testing.T) {
	lines := Statement([]string{"a:B"}, "r")
	var s struct{ Effect string }
	if err := json.Unmarshal([]byte(strings.Join(lines, "\n")), &s); err != nil || s.Effect != "Allow" ||
		!strings.HasPrefix(lines[0], "  ") {
		t.Errorf("%v, %v", lines, err)
	}
}

func TestWrite(t *testing.T) {
	needs := []Need{{"One", []string{"a:B"}, []string{"r*"}, "f"}, {"Two", []string{"a:C"}, []string{"${x}"}, "f"}}
	for syntax, want := range map[string][]string{
		JSON:           {`"Version": "2012-10-17"`, `"Sid": "One"`, `"a:B"`},
		CloudFormation: {"Type: AWS::IAM::ManagedPolicy", "- Sid: Two", `- "r*"`},
		Terraform:      {`data "aws_iam_policy_document" "ecsbuild"`, `sid = "Two"`, `"$${x}",`},
	} {
		var b bytes.Buffer
		if err := Write(&b, needs, syntax); err != nil {
			t.Error(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s: no %s in\n%s", syntax, w, b.String())
			}
		}
	}
}
