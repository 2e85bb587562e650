package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

const commit = "aaaaaaaabbbbbbbbccccccccddddddddeeeeeeee"

// loadIn resolves an environment, and a file where there is a text for one.
func loadIn(t *testing.T, file string, environ ...string) (*plan.Plan, error) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"Dockerfile": "FROM scratch\n"}
	if file != "" {
		files["ecsbuild.yml"] = file
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Load(Options{Directory: dir, Environ: environ, Commit: func() string { return commit }})
}

// summary is what a plan says of its registry, images and files, in one line.
func summary(p *plan.Plan) string {
	var parts []string
	for _, img := range p.Images {
		parts = append(parts, img.Name()+"="+img.Repository+":"+strings.Join(img.Tags, "+"))
	}
	for _, d := range p.Definitions {
		parts = append(parts, filepath.Base(d.File)+strings.ReplaceAll(fmt.Sprint(d.Entries), "} {", "}{"))
	}
	return strings.TrimSpace(p.Account + " " + p.Region + " " + strings.Join(parts, " "))
}

// TestEnvironment: what the environments of buildspecs mean, and what is said of it.
func TestEnvironment(t *testing.T) {
	const uri = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop/web"
	for name, tt := range map[string]struct {
		environ string // separated by semicolons
		want    string
		notes   []string
	}{
		"a URI": {"REPOSITORY_URI=" + uri + ";CONTAINER_NAME=web;IMAGE_TAG=v1",
			"111122223333 eu-west-1 web=shop/web:v1 imagedefinitions.json[{web web }]", nil},
		"a URI in the place of a name": {"IMAGE_REPO_NAME=" + uri + ";CONTAINER_NAME=web;IMAGE_TAG=v1",
			"111122223333 eu-west-1 web=shop/web:v1 imagedefinitions.json[{web web }]", nil},
		"a URI beside the same name": {"REPOSITORY_URI=" + uri + ";IMAGE_REPO_NAME=shop/web;CONTAINER_NAME=web;IMAGE_TAG=v1",
			"111122223333 eu-west-1 web=shop/web:v1 imagedefinitions.json[{web web }]", nil},
		"a registry beside a name": {"REPOSITORY_URI=111122223333.dkr.ecr.eu-west-1.amazonaws.com/;IMAGE_REPO_NAME=shop/web;CONTAINER_NAME=web;IMAGE_TAG=v1",
			"111122223333 eu-west-1 web=shop/web:v1 imagedefinitions.json[{web web }]", nil},
		"a dual-stack URI": {"REPOSITORY_URI=111122223333.dkr-ecr.eu-west-1.on.aws/web;CONTAINER_NAME=web;IMAGE_TAG=v1",
			"111122223333 eu-west-1 web=web:v1 imagedefinitions.json[{web web }]", nil},
		"a URI in another region and account": {"REPOSITORY_URI=" + uri + ";CONTAINER_NAME=web;IMAGE_TAG=v1;AWS_REGION=us-east-1;AWS_ACCOUNT_ID=999988887777",
			"111122223333 eu-west-1 web=shop/web:v1 imagedefinitions.json[{web web }]",
			[]string{"the registry's region is eu-west-1, as in REPOSITORY_URI; parameters, secrets and services are looked for in us-east-1, by AWS_REGION",
				"the account is 111122223333, as in REPOSITORY_URI; AWS_ACCOUNT_ID is 999988887777"}},
		"several, one by its URI": {"REPOSITORY_URI_1=" + uri + ";CONTAINER_NAME_1=web;IMAGE_REPO_NAME_2=app;CONTAINER_NAME_2=app;IMAGE_TAG=v1",
			"111122223333 eu-west-1 web=shop/web:v1 app=app:v1 imagedefinitions.json[{web web }{app app }]", nil},
		"a registry for all": {"REPOSITORY_URI=111122223333.dkr.ecr.eu-west-1.amazonaws.com;IMAGE_REPO_NAME_1=aa;IMAGE_REPO_NAME_2=bb;IMAGE_TAG=v1",
			"111122223333 eu-west-1 aa=aa:v1 bb=bb:v1", []string{"no image names its container, so no definitions file is written"}},
		"white space around it": {"REPOSITORY_URI= " + uri + "\n;IMAGE_TAG=v1;CONTAINER_NAME=web",
			"111122223333 eu-west-1 web=shop/web:v1 imagedefinitions.json[{web web }]", nil},
		"no container": {"IMAGE_REPO_NAME=shop/web;IMAGE_TAG=v1;AWS_REGION=eu-west-1", "eu-west-1 shop/web=shop/web:v1",
			[]string{"no image names its container, so no definitions file is written"}},
		"several tags":            {"IMAGE_REPO_NAME=web;CONTAINER_NAME=web;IMAGE_TAG=v1, latest v1", "web=web:v1+latest imagedefinitions.json[{web web }]", nil},
		"no tag":                  {"IMAGE_REPO_NAME=web;CONTAINER_NAME=web", "web=web:aaaaaaaabbbb imagedefinitions.json[{web web }]", []string{"the tag is aaaaaaaabbbb, the first 12 characters of the commit: IMAGE_TAG is not set"}},
		"one region":              {"IMAGE_REPO_NAME=web;CONTAINER_NAME=web;IMAGE_TAG=v1;AWS_DEFAULT_REGION=eu-west-1", "eu-west-1 web=web:v1 imagedefinitions.json[{web web }]", nil},
		"two regions":             {"IMAGE_REPO_NAME=web;CONTAINER_NAME=web;IMAGE_TAG=v1;AWS_REGION=us-east-1;AWS_DEFAULT_REGION=eu-west-1", "us-east-1 web=web:v1 imagedefinitions.json[{web web }]", []string{"the region is us-east-1, by AWS_REGION; AWS_DEFAULT_REGION is eu-west-1"}},
		"two regions, CodeBuild":  {"CODEBUILD_BUILD_ID=shop:1;IMAGE_REPO_NAME=web;CONTAINER_NAME=web;IMAGE_TAG=v1;AWS_REGION=us-east-1;AWS_DEFAULT_REGION=eu-west-1", "eu-west-1 web=web:v1 imagedefinitions.json[{web web }]", []string{"the region is eu-west-1, by AWS_DEFAULT_REGION; AWS_REGION, which CodeBuild sets by itself, is us-east-1"}},
		"the same region twice":   {"CODEBUILD_BUILD_ID=shop:1;IMAGE_REPO_NAME=web;CONTAINER_NAME=web;IMAGE_TAG=v1;AWS_REGION=us-east-1;AWS_DEFAULT_REGION=us-east-1", "us-east-1 web=web:v1 imagedefinitions.json[{web web }]", nil},
		"images of one container": {"IMAGE_REPO_NAME_1=web;CONTAINER_NAME_1=a;IMAGE_REPO_NAME_2=web;CONTAINER_NAME_2=b;IMAGE_TAG=v1", "a=web:v1 imagedefinitions.json[{a a }{b a }]", nil},
	} {
		p, err := loadIn(t, "", strings.Split(tt.environ, ";")...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, summary(p)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(tt.notes, p.Notes); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestEnvironmentErrors(t *testing.T) {
	const uri = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/"
	for name, tt := range map[string]struct{ environ, want string }{
		"another registry": {"IMAGE_REPO_NAME=docker.io/acme/web;CONTAINER_NAME=web",
			`IMAGE_REPO_NAME: "docker.io/acme/web" is not in Amazon ECR`},
		"ECR Public without a name": {"REPOSITORY_URI=public.ecr.aws/a1b2",
			`REPOSITORY_URI: "public.ecr.aws/a1b2" is not the URI of a repository in ECR Public`},
		"two registries": {"REPOSITORY_URI_1=" + uri +
			"aa;REPOSITORY_URI_2=222233334444.dkr.ecr.eu-west-1.amazonaws.com/bb",
			"REPOSITORY_URI_2: 222233334444.dkr.ecr.eu-west-1.amazonaws.com/bb is in another registry than 111122223333.dkr.ecr.eu-west-1.amazonaws.com"},
		"two repositories": {"REPOSITORY_URI=" + uri + "aa;IMAGE_REPO_NAME=bb",
			"REPOSITORY_URI: its repository is aa, and IMAGE_REPO_NAME is bb"},
		"an address": {"REPOSITORY_URI=https://" + uri + "aa", "leave the beginning out: " + uri + "aa"},
		"another domain": {"REPOSITORY_URI=111122223333.dkr.ecr.eu-west-1.example.com/aa",
			"is not the URI of a repository in ECR"},
		"capitals":         {"REPOSITORY_URI=111122223333.DKR.ECR.eu-west-1.amazonaws.com/aa", "all in lower case"},
		"no tag at all":    {"IMAGE_REPO_NAME=aa;IMAGE_TAG=,", "IMAGE_TAG: a tag is empty"},
		"a registry alone": {"REPOSITORY_URI=" + uri, "names a registry and no repository"},
		"a tag in it": {"REPOSITORY_URI=" + uri + "aa:latest",
			"leave the tag out: aa; tags come from IMAGE_TAG"},
		"a mistyped region": {"REPOSITORY_URI=111122223333.dkr.ecr.eu-wets-1.amazonaws.com/a",
			"did you mean eu-west-1?"},
		"half a pair": {"IMAGE_REPO_NAME_1=aa;CONTAINER_NAME_1=a;IMAGE_REPO_NAME_2=bb",
			"IMAGE_REPO_NAME_2: CONTAINER_NAME_2 is missing"},
		"the other half": {"CONTAINER_NAME=a", "CONTAINER_NAME: IMAGE_REPO_NAME is missing"},
		"a container of two": {"IMAGE_REPO_NAME_1=aa;CONTAINER_NAME_1=web;IMAGE_REPO_NAME_2=bb;CONTAINER_NAME_2=web",
			`duplicate container "web" in imagedefinitions.json`},
		"a bad tag of several": {"IMAGE_REPO_NAME=aa;IMAGE_TAG=v1,-x", `IMAGE_TAG: "-x" is not a tag`},
		"the same image twice": {"IMAGE_REPO_NAME_1=aa;IMAGE_REPO_NAME_2=aa", "aa and aa-2 would both be aa:"},
		"a name of another thing": {"REPOSITORY_URL=x",
			"did you mean REPOSITORY_URI where the environment has REPOSITORY_URL?"},
		"half a Docker Hub login":  {"IMAGE_REPO_NAME=aa;DOCKER_USER=me", "DOCKER_USER: DOCKER_PASSWORD is missing"},
		"the other half of that":   {"IMAGE_REPO_NAME=aa;DOCKER_PASSWORD=me", "DOCKER_PASSWORD: DOCKER_USER is missing"},
		"no number that there can": {"IMAGE_REPO_NAME_99999999999999999999=aa", "the number is too large"},
	} {
		_, err := loadIn(t, "", strings.Split(tt.environ, ";")...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHubAccount: the names that people give Docker Hub's account.
func TestHubAccount(t *testing.T) {
	for name, tt := range map[string]struct {
		environ        string
		user, password string
		warning        string
	}{
		"ours":                  {"DOCKER_USER=u;DOCKER_PASSWORD=p", "env:DOCKER_USER", "env:DOCKER_PASSWORD", ""},
		"another's":             {"DOCKERHUB_USERNAME=u;DOCKERHUB_TOKEN=p", "env:DOCKERHUB_USERNAME", "env:DOCKERHUB_TOKEN", ""},
		"of two prefixes":       {"DOCKER_USERNAME=u;DOCKERHUB_PASSWORD=p", "env:DOCKER_USERNAME", "env:DOCKERHUB_PASSWORD", ""},
		"a pair before halves":  {"DOCKER_USERNAME=x;DOCKER_HUB_ID=u;DOCKER_HUB_PASS=p", "env:DOCKER_HUB_ID", "env:DOCKER_HUB_PASS", ""},
		"none":                  {"X=y", "ssm:DOCKER_HUB_ID", "ssm:DOCKER_HUB_PASSWORD", ""},
		"a user alone":          {"DOCKERHUB_USERNAME=u", "ssm:DOCKER_HUB_ID", "ssm:DOCKER_HUB_PASSWORD", "DOCKERHUB_USERNAME is not used for Docker Hub, since DOCKERHUB_PASSWORD is not set"},
		"a password alone":      {"DOCKER_HUB_TOKEN=u", "ssm:DOCKER_HUB_ID", "ssm:DOCKER_HUB_PASSWORD", "DOCKER_HUB_TOKEN is not used for Docker Hub, since DOCKER_HUB_USERNAME is not set"},
		"an empty one is unset": {"DOCKER_USER=;DOCKER_PASSWORD=;DOCKER_USERNAME=u;DOCKER_PASS=p", "env:DOCKER_USERNAME", "env:DOCKER_PASS", ""},
	} {
		p, err := loadIn(t, "", append(strings.Split(tt.environ, ";"), "IMAGE_REPO_NAME=aa", "IMAGE_TAG=v1")...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if l := p.Logins[0]; l.Username.String() != tt.user || l.Password.String() != tt.password {
			t.Errorf("%s: %s, %s", name, l.Username, l.Password)
		}
		if strings.Join(p.Warnings, "\n") != tt.warning {
			t.Errorf("%s: %q", name, p.Warnings)
		}
	}
}

// TestDefinitions: which image each container of each file runs.
func TestDefinitions(t *testing.T) {
	const two = "images:\n  - {container: app, repository: shop-web}\n  - {container: app, repository: shop-worker}\n"
	for name, tt := range map[string]struct{ file, want string }{
		"none": {"images: [{container: app, repository: shop}]\ndefinitions: []", "app=shop:v1"},
		"one container of two images": {two + "definitions:\n  - {file: web.json, containers: [app=shop-web]}\n  - {file: worker.json, containers: {app: shop-worker}}\n",
			"shop-web=shop-web:v1 shop-worker=shop-worker:v1 web.json[{app shop-web }] worker.json[{app shop-worker }]"},
		"a container that the image does not name": {"images: [{repository: shop}]\ndefinitions: [{containers: [app=shop]}]",
			"shop=shop:v1 imagedefinitions.json[{app shop }]"},
		"a fixed one beside": {"images: [{container: app, repository: shop}]\ndefinitions: [{also: {envoy: 'public.ecr.aws/appmesh/aws-appmesh-envoy:v1.29'}}]",
			"app=shop:v1 imagedefinitions.json[{app app }{envoy  public.ecr.aws/appmesh/aws-appmesh-envoy:v1.29}]"},
		"a URI in the file": {"images: [{container: app, repository: 111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop}]",
			"111122223333 eu-west-1 app=shop:v1 imagedefinitions.json[{app app }]"},
		"the commit": {"tag: ${COMMIT:0:7}\nimages: [{container: app, repository: shop}]", "app=shop:aaaaaaa imagedefinitions.json[{app app }]"},
		"a shared container comes first": {"images:\n  - {containers: [app, xx], repository: aa}\n  - {containers: [app], repository: bb}\ndefinitions: [{containers: [app=aa, xx]}]",
			"xx=aa:v1 bb=bb:v1 imagedefinitions.json[{app xx }{xx xx }]"},
		"a repository is another's container": {"images:\n  - {containers: [ww, qq], repository: cc}\n  - {repository: qq}\ndefinitions: []",
			"ww=cc:v1 qq-2=qq:v1"},
		"a container is another's repository": {"images:\n  - {repository: app}\n  - {container: app, repository: shop}\ndefinitions: []",
			"app-2=app:v1 app=shop:v1"},
		"several tags of a variable": {"images: [{repository: shop, tags: ['${TAGS}', x]}]", "shop=shop:v1+latest+x"},
		"a container by the URI": {"images: [{repository: 111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop}]\ndefinitions: [{containers: [app=111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop]}]",
			"111122223333 eu-west-1 shop=shop:v1 imagedefinitions.json[{app shop }]"},
		"images of one repository": {"images: [{repository: shop, tags: [a]}, {repository: shop, tags: [b]}]\n", "shop=shop:a shop-2=shop:b"},
	} {
		p, err := loadIn(t, tt.file, "IMAGE_TAG=v1", "TAGS=v1,latest")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, summary(p)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, tt := range map[string]struct{ file, want string }{
		"no file for two":       {two, `duplicate container "app" in imagedefinitions.json`},
		"which of two":          {two + "definitions: [{containers: [app]}]", `ecsbuild.yml:4:15: several images have the container "app": shop-web, shop-worker; say which one this file means, as in containers: [app=shop-web]`},
		"no such repository":    {two + "definitions: [{containers: [app=shop-wbe]}]", `no image goes to the repository "shop-wbe"; did you mean "shop-web"?`},
		"no such container":     {two + "definitions: [{containers: [ap]}]", `no image has the container "ap"; did you mean "app"?`},
		"nobody has one":        {"images: [{repository: shop}]\ndefinitions: [{containers: [app]}]", `no image has the container "app"; name the repository of its image, as in app=shop`},
		"nothing to say":        {"images: [{repository: shop}]\ndefinitions: [{}]", "no image names its container"},
		"a fixed one, twice":    {"images: [{container: app, repository: shop}]\ndefinitions: [{also: {app: nginx}}]", `duplicate container "app"`},
		"a fixed one's image":   {"images: [{container: app, repository: shop}]\ndefinitions: [{also: {envoy: 'a b'}}]", `also: "a b" is not an image`},
		"a detail, and another": {"images: [{container: app, repository: shop}]\ndefinitions: [{format: image-detail, also: {envoy: nginx}}]", "cannot have also"},
		"two in one image":      {"images: [{containers: [app, app], repository: shop}]", `duplicate container "app"; name each container once`},
		"another account":       {"account: '999988887777'\nimages: [{container: app, repository: 111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop}]", "is in another account than 999988887777"},
	} {
		if _, err := loadIn(t, tt.file, "IMAGE_TAG=v1"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPublic: ECR Public as the registry of a run.
func TestPublic(t *testing.T) {
	for name, tt := range map[string]struct{ file, want string }{
		"one": {"images: [{repository: public.ecr.aws/a1b2/web}]\n", ""},
		"two": {"images: [{repository: public.ecr.aws/a1b2/web, cache: local, cache_mounts: true}, {repository: public.ecr.aws/a1b2/app, create_repository: true, cache: inline}]\n", ""},
		"no name": {"images: [{repository: public.ecr.aws/a1b2}]\n",
			`"public.ecr.aws/a1b2" is not the URI of a repository in ECR Public; write it as in public.ecr.aws/ALIAS/NAME`},
		"a private one": {"images: [{repository: public.ecr.aws/a1b2/web}, {repository: 123456789012.dkr.ecr.us-east-1.amazonaws.com/app}]\n", "is in another registry than public.ecr.aws"},
		"one without": {"images: [{repository: public.ecr.aws/a1b2/web}, {repository: app}]\n",
			"app has no registry, and public.ecr.aws/a1b2/web is in ECR Public; write it as in public.ecr.aws/ALIAS/app"},
		"creation": {"images: [{repository: public.ecr.aws/a1b2/web, create_repository: {immutable: true}}]\n",
			"create_repository with keys, in ECR Public"},
		"immutable tags": {"images: [{repository: public.ecr.aws/a1b2/web, on_immutable: fail}]\n",
			"on_immutable: fail, in ECR Public: its tags may always be moved"},
		"a cache": {"images: [{repository: public.ecr.aws/a1b2/web, cache: registry}]\n",
			"cache: registry, in ECR Public"},
		"cache mounts": {"images: [{repository: public.ecr.aws/a1b2/web, cache_mounts: true}]\n",
			"cache_mounts, in ECR Public"},
	} {
		p, err := loadIn(t, tt.file, "IMAGE_TAG=v1", "AWS_REGION=eu-west-1")
		for file, variable := range map[string]string{"": "REPOSITORY_URI=public.ecr.aws/a1b2/web",
			"images: [{repository: public.ecr.aws/a1b2/web}]\n": "A=b"} {
			for _, variable := range []string{variable, strings.Replace(variable, "URI", "URI_1", 1)} {
				if _, err := loadIn(t, file, "IMAGE_TAG=v1", variable, "BUILD_CACHE=registry"); err == nil ||
					!strings.Contains(err.Error(), "cache: registry, in ECR Public") {
					t.Errorf("a cache of the environment is public, with %q and %s: %v", file, variable, err)
				}
			}
		}
		switch {
		case tt.want == "" && (err != nil || !p.Public || p.Region != "eu-west-1" || p.Images[0].Repository != "a1b2/web"):
			t.Errorf("%s: %+v, %v", name, p, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSubstring: as bash has it.
func TestSubstring(t *testing.T) {
	env := lookup(map[string]string{"V": "0123456789", "E": ""})
	for in, want := range map[string]string{"${V:0:7}": "0123456", "${V::7}": "0123456", "${V:3}": "3456789", "${V: -3}": "789",
		"${V: -3:2}": "78", "${V:2:-2}": "234567", "${V:5:99}": "56789", "${V:99}": "", "${V: -99}": "", "${V:8:-5}": "", "${E:0:7}": "",
		"${V:-x}": "0123456789", "${E:-3}": "3"} {
		if got, _, err := interpolate(in, env); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"${V:}", "${V:0:}", "${V:a}", "${V:0:1:2}"} {
		if got, _, err := interpolate(in, env); err == nil {
			t.Errorf("%s is %q", in, got)
		}
	}
	if _, unset, _ := interpolate("${X:0:7}", env); !slices.Equal(unset, []string{"X"}) {
		t.Errorf("%v", unset)
	}
}
