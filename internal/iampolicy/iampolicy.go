// Package iampolicy is the least-privilege IAM policy of a plan, and the ARNs that it names.
package iampolicy

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A Need is a permission of a plan: actions on resources, and what for.
type Need struct {
	Sid       string
	Actions   []string
	Resources []string
	Feature   string
}

// Needs lists what a run of the plan may ask for, and nothing more. Where the
// account or the region is unknown, an ARN has * in its place. The registry's
// account may be another one than the caller's, in which everything else lies: "" for
// unknown. The files tell of base images in ECR.
func Needs(p *plan.Plan, files dockerfile.Files, caller string) []Need {
	f := Scope{Region: cmp.Or(p.Region, "*"), Account: cmp.Or(p.Account, "*"), Caller: cmp.Or(caller, "*"),
		CallerRegion: p.CallerRegion, Public: p.Public}
	private := Need{"LogIn", []string{"ecr:GetAuthorizationToken"}, []string{"*"},
		"the token for ECR; IAM knows this action for every resource only"}
	needs := []Need{private}
	if p.Public {
		needs = []Need{{"LogIn", []string{"ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"}, []string{"*"},
			"the token for ECR Public; IAM knows these actions for every resource only"}}
	}
	var repos, params, secrets, services, pulls, caches, creates, looks []string
	lifecycle := false
	add := func(to *[]string, arn string) {
		if !slices.Contains(*to, arn) {
			*to = append(*to, arn)
		}
	}
	source := func(s plan.Source) {
		switch {
		case s.Kind == plan.FromSSM:
			add(&params, f.ParameterARN(s.Name))
		case s.Kind == plan.FromSecretsManager && strings.HasPrefix(s.Name, "arn:"):
			add(&secrets, s.Name)
		case s.Kind == plan.FromSecretsManager:
			add(&secrets, f.InCaller("secretsmanager", "secret:"+s.Name+"-??????"))
		}
	}
	for _, l := range p.Logins {
		source(l.Username)
		source(l.Password)
	}
	for _, img := range p.Images {
		repo := f.Repository(img.Repository)
		add(&repos, repo)
		if img.Create != nil {
			add(&creates, repo)
			lifecycle = lifecycle || img.Create.LifecyclePolicy != ""
		}
		if img.OnImmutable == plan.FailTaken {
			add(&looks, repo)
		}
		for _, s := range img.Build.Secrets {
			source(s)
		}
		for _, ref := range files[img.Name()].References(img.Build).All() {
			if arn := f.ecrARN(ref); arn != "" {
				add(&pulls, arn)
			}
		}
		for _, c := range img.Build.CacheFrom {
			if arn := f.ecrARN(cacheRef(c)); arn != "" {
				add(&pulls, arn)
			}
		}
		switch img.Build.Cache {
		case plan.CacheInline:
			if !p.Public { // everybody may pull from there
				add(&pulls, repo)
			}
		case plan.CacheRegistry:
			add(&caches, repo)
		}
		if img.Reuse && len(p.Gates) > 0 && !p.Public { // one that was not built is pulled
			add(&pulls, repo)
		}
		if img.Build.CacheMounts && img.Build.Cache != plan.CacheLocal {
			add(&caches, repo)
		}
		for _, c := range img.Build.CacheTo {
			if arn := f.ecrARN(cacheRef(c)); arn != "" {
				add(&caches, arn)
			}
		}
	}
	tasks := false
	for _, d := range p.Definitions {
		if d.Service != nil {
			add(&services, f.serviceARN(*d.Service))
			tasks = true
		}
	}
	push := []string{"ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart",
		"ecr:CompleteLayerUpload", "ecr:PutImage"}
	publicOnes := func(actions []string) []string {
		out := slices.Clone(actions)
		for i := range out {
			if p.Public {
				out[i] = strings.Replace(out[i], "ecr:", "ecr-public:", 1)
			}
		}
		return out
	}
	pull := []string{"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}
	create := []string{"ecr:CreateRepository"}
	if lifecycle {
		create = append(create, "ecr:PutLifecyclePolicy")
	}
	if p.Public && len(pulls)+len(caches) > 0 { // the private registry's token opens those
		private.Sid = "LogInPrivate"
		needs = append(needs, private)
	}
	for _, n := range []Need{
		{"Push", publicOnes(push), repos, "layers and tags of the images"},
		{"Parameters", []string{"ssm:GetParameters"}, params,
			"registry accounts and build secrets from SSM; a parameter under a KMS key of your own needs kms:Decrypt on that key as well"},
		{"Secrets", []string{"secretsmanager:GetSecretValue"}, secrets,
			"registry accounts and build secrets from Secrets Manager"},
		{"Service", []string{"ecs:DescribeServices"}, services, "the check of container names: service under definitions"},
		{"Pull", pull, pulls, "base images, cache_from, cache: inline, and reuse with gates, in ECR"},
		{"Create", publicOnes(create), creates, "create_repository: made where it is missing"},
		{"Tags", []string{"ecr:DescribeImages"}, looks, "on_immutable: fail looks for the tag before the build"},
		{"Cache", append(slices.Clone(push), pull...), caches, "cache_to, cache: registry and cache_mounts in ECR"},
	} {
		if len(n.Resources) > 0 {
			slices.Sort(n.Resources)
			needs = append(needs, n)
		}
	}
	if tasks {
		needs = append(needs, Need{"TaskDefinition", []string{"ecs:DescribeTaskDefinition"}, []string{"*"},
			"the check of container names; IAM knows this action for every resource only"})
	}
	return needs
}

// Offers are permissions that a run can use and that the policy leaves out: most runs do
// without them, and only the account knows which do not.
func Offers(needs []Need) []Need {
	var repos, bases []string
	for _, n := range needs {
		switch n.Sid {
		case "Push":
			repos = n.Resources
		case "Pull":
			bases = n.Resources
		}
	}
	var offers []Need
	if slices.ContainsFunc(repos, func(arn string) bool { return !strings.Contains(arn, ":ecr-public:") }) {
		offers = append(offers,
			Need{"Sign", []string{"signer:SignPayload"}, []string{"the ARN of the signing profile"},
				"pushes to a repository whose images ECR signs by itself (managed signing), which fail without it"},
			Need{"Look", []string{"ecr:DescribeRepositories", "ecr:DescribeImages"}, repos,
				"tags that may not be moved, found before the first tag moves; and for reuse, how many tags an image has"})
		if len(repos) > 1 {
			offers = append(offers, Need{"Mount", []string{"ecr:GetDownloadUrlForLayer"}, repos,
				"blob mounting, where the account has it on: a layer that one repository has is not uploaded to another"})
		}
	}
	bases = slices.DeleteFunc(slices.Clone(bases), // those of cache: inline
		func(arn string) bool { return slices.Contains(repos, arn) })
	if len(bases) > 0 {
		offers = append(offers, Need{"PullThrough", []string{"ecr:BatchImportUpstreamImage", "ecr:CreateRepository"}, bases,
			"base images in a repository of a pull-through cache rule; the second one for its first pull"})
	}
	return offers
}

func cacheRef(c string) string {
	for _, kv := range strings.Split(c, ",") {
		if ref, ok := strings.CutPrefix(kv, "ref="); ok {
			return ref
		}
	}
	if strings.Contains(c, "=") {
		return ""
	}
	return c
}

// The formats of a policy.
const (
	JSON           = "json"
	CloudFormation = "cloudformation"
	Terraform      = "terraform"
)

// Write prints the policy of needs: JSON, CloudFormation or Terraform.
func Write(w io.Writer, needs []Need, syntax string) error {
	var err error
	line := func(text string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, text+"\n", args...)
		}
	}
	list := func(name string, items []string) {
		line("\n    %s = [", name)
		for _, s := range items {
			// In HCL ${ and %%{ begin a template.
			line("      %s,", strings.NewReplacer("${", "$${", "%{", "%%{").Replace(strconv.Quote(s)))
		}
		line("    ]")
	}
	switch syntax {
	case CloudFormation:
		line("EcsbuildPolicy:\n  Type: AWS::IAM::ManagedPolicy\n  Properties:\n    PolicyDocument:\n      Version: \"2012-10-17\"\n      Statement:")
		for _, n := range needs {
			line("        - Sid: %s\n          Effect: Allow\n          Action:", n.Sid)
			for _, a := range n.Actions {
				line("            - %s", a)
			}
			line("          Resource:")
			for _, r := range n.Resources {
				line("            - %q", r)
			}
		}
	case Terraform:
		line("data \"aws_iam_policy_document\" \"ecsbuild\" {")
		for i, n := range needs {
			if i > 0 {
				line("")
			}
			line("  statement {\n    sid = %q", n.Sid)
			list("actions", n.Actions)
			list("resources", n.Resources)
			line("  }")
		}
		line("}")
	default:
		type statement struct {
			Sid, Effect string
			Action      []string
			Resource    []string
		}
		doc := struct {
			Version   string
			Statement []statement
		}{Version: "2012-10-17"}
		for _, n := range needs {
			doc.Statement = append(doc.Statement, statement{n.Sid, "Allow", n.Actions, n.Resources})
		}
		return format.JSON(w, doc, "  ")
	}
	return err
}
