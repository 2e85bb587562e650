package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

const pipelineTemplate = "../../examples/pipeline/template.yml"

// pipelineParameters are those without a default, and those of everything that is optional.
var (
	pipelineParameters = map[string]string{
		"ConnectionArn":    "arn:aws:codeconnections:eu-central-1:111122223333:connection/1-2",
		"SourceRepository": "acme/shop", "Cluster": "prod", "Service": "web-service", "Container": "web",
		"ImageRepository": "shop/web", "EcsbuildSha256": strings.Repeat("0", 64),
	}
	pipelineOptions = map[string]string{
		"SecondService": "worker-service", "SecondContainer": "worker", "SecondImageRepository": "shop/worker",
		"BuildCache": "local", "SlackWorkspaceId": "T012", "SlackChannelId": "C012", "DistributionId": "E012",
	}
)

// TestPipelinePolicy: the role of the build has what `ecsbuild policy` prints for the
// environment of the build, and the files that are deployed are those that a run writes.
func TestPipelinePolicy(t *testing.T) {
	for name, options := range map[string]map[string]string{
		"one service":           nil,
		"one service, no cache": {"BuildCache": "none"},
		"two services":          {"SecondService": "s", "SecondContainer": "worker", "SecondImageRepository": "shop/worker"},
		"all that there is":     pipelineOptions,
	} {
		t.Run(name, func(t *testing.T) {
			resources := evaluateTemplate(t, pipelineTemplate, pipelineParameters, options)
			dir := t.TempDir()
			for _, d := range []string{".", "web", "worker"} {
				write(t, filepath.Join(dir, d, "Dockerfile"), "FROM scratch\n")
			}
			if options["SecondService"] != "" {
				file, err := os.ReadFile("../../examples/pipeline/ecsbuild.yml")
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, "ecsbuild.yml"), string(file))
			}
			environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "AWS_REGION=eu-central-1",
				"AWS_ACCOUNT_ID=111122223333", "IMAGE_TAG=1"}
			project := resources["Build"].(map[string]any)["Properties"].(map[string]any)
			for _, v := range project["Environment"].(map[string]any)["EnvironmentVariables"].([]any) {
				v := v.(map[string]any)
				environ = append(environ, v["Name"].(string)+"="+v["Value"].(string))
			}
			ecsbuild := func(into any, args ...string) {
				t.Helper()
				cmd := exec.Command("ecsbuild", args...)
				cmd.Dir, cmd.Env = dir, environ
				out, err := cmd.CombinedOutput()
				if err == nil {
					err = json.Unmarshal(out, into)
				}
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}

			role := resources["BuildRole"].(map[string]any)["Properties"].(map[string]any)
			got := role["Policies"].([]any)[0].(map[string]any)["PolicyDocument"]
			var want any
			ecsbuild(&want, "policy")
			// The account of the parameters is the caller's, which the template knows.
			text, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), ":ssm:eu-central-1:*:",
				":ssm:eu-central-1:111122223333:")), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what ecsbuild policy prints (-) is not the template's (+):\n%s", diff)
			}

			var deployed, written []string
			pipeline := resources["Pipeline"].(map[string]any)["Properties"].(map[string]any)
			for _, stage := range pipeline["Stages"].([]any) {
				for _, action := range stage.(map[string]any)["Actions"].([]any) {
					settings, _ := action.(map[string]any)["Configuration"].(map[string]any)
					if file, ok := settings["FileName"].(string); ok {
						deployed = append(deployed, file)
					}
				}
			}
			var plan struct{ Definitions []struct{ File string } }
			ecsbuild(&plan, "plan", "--json")
			for _, d := range plan.Definitions {
				written = append(written, filepath.Base(d.File))
			}
			if diff := cmp.Diff(written, deployed); diff != "" {
				t.Errorf("a run writes (-), the pipeline deploys (+):\n%s", diff)
			}
		})
	}
}

// TestPipelineActions: what each stage is told to do, and that the pipeline's role may do it. The
// definitions of resources know neither actions of IAM nor the settings of a provider.
func TestPipelineActions(t *testing.T) {
	resources := evaluateTemplate(t, pipelineTemplate, pipelineParameters, pipelineOptions)
	var got []string
	pipeline := resources["Pipeline"].(map[string]any)["Properties"].(map[string]any)
	for _, stage := range pipeline["Stages"].([]any) {
		for _, action := range stage.(map[string]any)["Actions"].([]any) {
			a := action.(map[string]any)
			kind := a["ActionTypeId"].(map[string]any)
			settings, _ := json.Marshal(a["Configuration"])
			got = append(got, fmt.Sprintf("%v %v %s", kind["Category"], kind["Provider"], settings))
		}
	}
	want := []string{
		`Source CodeStarSourceConnection {"BranchName":"main","ConnectionArn":"` + pipelineParameters["ConnectionArn"] +
			`","FullRepositoryId":"acme/shop"}`,
		`Build CodeBuild {"ProjectName":"{Build}"}`,
		`Deploy ECS {"ClusterName":"prod","FileName":"imagedefinitions.json","ServiceName":"web-service"}`,
		`Deploy ECS {"ClusterName":"prod","FileName":"imagedefinitions-2.json","ServiceName":"worker-service"}`,
		`Compute Commands null`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	var actions []string
	role := resources["PipelineRole"].(map[string]any)["Properties"].(map[string]any)
	policy := role["Policies"].([]any)[0].(map[string]any)["PolicyDocument"].(map[string]any)
	for _, statement := range policy["Statement"].([]any) {
		switch a := statement.(map[string]any)["Action"].(type) {
		case string:
			actions = append(actions, a)
		case []any:
			for _, one := range a {
				actions = append(actions, one.(string))
			}
		}
	}
	// https://docs.aws.amazon.com/codepipeline/latest/userguide/how-to-custom-role.html and the
	// reference of each action.
	may := strings.Fields(`codeconnections:UseConnection codestar-connections:UseConnection
		s3:GetObject s3:GetObjectVersion s3:PutObject s3:GetBucketAcl s3:GetBucketLocation s3:GetBucketVersioning
		codebuild:BatchGetBuilds codebuild:StartBuild ecs:DescribeServices ecs:UpdateService
		ecs:DescribeTaskDefinition ecs:RegisterTaskDefinition ecs:DescribeTasks ecs:ListTasks ecs:TagResource iam:PassRole
		cloudfront:CreateInvalidation logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents`)
	if diff := cmp.Diff(may, actions); diff != "" {
		t.Error(diff)
	}
	events := resources["SlackMessages"].(map[string]any)["Properties"].(map[string]any)["EventTypeIds"]
	if diff := cmp.Diff([]any{"codepipeline-pipeline-pipeline-execution-succeeded",
		"codepipeline-pipeline-pipeline-execution-failed"}, events); diff != "" {
		t.Error(diff)
	}
}

// TestPipelineBuildspec: it installs ecsbuild as the example buildspec does, and runs it.
func TestPipelineBuildspec(t *testing.T) {
	var want, got codebuildFile
	example, err := os.ReadFile("../../buildspec.example.yml")
	if err != nil {
		t.Fatal(err)
	}
	resources := evaluateTemplate(t, pipelineTemplate, pipelineParameters, nil)
	project := resources["Build"].(map[string]any)["Properties"].(map[string]any)
	inline := project["Source"].(map[string]any)["BuildSpec"].(string)
	for text, into := range map[string]*codebuildFile{string(example): &want, inline: &got} {
		if err := yaml.UnmarshalWithOptions([]byte(text), into, yaml.Strict()); err != nil {
			t.Fatal(err)
		}
	}
	want.Env.Variables = nil // the project has them
	want.Artifacts.Files = []string{"imagedefinitions*.json"}
	build := want.Phases["build"]
	build.Commands = []string{"ecsbuild run"} // nothing is exported
	want.Phases["build"] = build
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("buildspec.example.yml (-), the template's (+):\n%s", diff)
	}
}

// TestPipelineTemplate checks it against CloudFormation's own definitions of resources, and
// that the validator finds a property that there is not, and one that is missing.
func TestPipelineTemplate(t *testing.T) {
	if os.Getenv("ECSBUILD_TEST_ENGINES") == "" {
		t.Skip("needs the validator of templates: make test")
	}
	install(t, "templates")
	data, err := os.ReadFile(pipelineTemplate)
	if err != nil {
		t.Fatal(err)
	}
	type check struct {
		Template   string
		Parameters map[string]string
		want       string // of what is found, "" for nothing
	}
	checks := []check{
		{pipelineTemplate, map[string]string{}, ""},
		{pipelineTemplate, map[string]string{"BuildCache": "none"}, ""},
		{pipelineTemplate, pipelineOptions, ""},
	}
	for from, wrong := range map[string][]string{
		"PrivilegedMode:": {"PriviledgedMode:", "'PriviledgedMode' was unexpected"},
		"      RoleArn: ": {"      # ", "'RoleArn' is a required property"},
	} {
		file := filepath.Join(t.TempDir(), "wrong.yml")
		write(t, file, strings.Replace(string(data), from, wrong[0], 1))
		checks = append(checks, check{file, map[string]string{}, wrong[1]})
	}
	list, err := json.Marshal(checks)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "-e", `
const { CelEngine, TemplateFile } = require("@aws/cloudformation-validate");
const engine = new CelEngine();
console.log(JSON.stringify(JSON.parse(process.argv[1]).map(({ Template, Parameters }) =>
  engine.validateStandard(new TemplateFile(Template), { severityLevel: "WARN", parameterOverrides: Parameters })
    .diagnostics.map((d) => d.message + ", line " + d.startLine).join("\n"))));`, string(list))
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(scriptEngine(t, "where", "templates"), "node_modules"))
	out, err := cmd.CombinedOutput()
	var found []string
	if err == nil {
		err = json.Unmarshal(out, &found)
	}
	if err != nil || len(found) != len(checks) {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, c := range checks {
		if found[i] != "" && c.want == "" || !strings.Contains(found[i], c.want) {
			t.Errorf("%s with %v: found %q, not %q", c.Template, c.Parameters, found[i], c.want)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
