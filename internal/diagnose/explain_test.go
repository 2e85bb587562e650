package diagnose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/baseimage"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/dockerpush"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/httptransport"
	"github.com/ecsbuild/ecsbuild/internal/iampolicy"
	"github.com/ecsbuild/ecsbuild/internal/layer"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

const host = "123456789012.dkr.ecr.ap-northeast-1.amazonaws.com"

func refused(action string, status int, code, message string) error {
	return &pipeline.ImageError{Image: plan.Image{Containers: []string{"web"}, Repository: "shop"}, Err: &registry.Error{
		Host: host, Repository: "shop", Tag: "v1", Action: action,
		Err: &transport.Error{StatusCode: status,
			Errors: []transport.Diagnostic{{Code: transport.ErrorCode(code), Message: message}}},
	}}
}

func refusedPlainly(action string, status int) error {
	return &registry.Error{Host: host, Repository: "shop", Action: action, Err: &transport.Error{StatusCode: status}}
}

func build(message string) error {
	return &builder.BuildError{Image: "web", Dockerfile: "/src/Dockerfile", Err: errors.New(message)}
}

func awsError(action, code, message string, names ...string) error {
	return &aws.Error{Action: action, Resources: names, Err: &smithy.GenericAPIError{Code: code, Message: message}}
}

// TestTexts has a row for each text that a registry, an engine or AWS is known
// to say, in its old and its new wording.
func TestTexts(t *testing.T) {
	const user = "User: arn:aws:sts::123456789012:assumed-role/ci/b is not authorized to perform: "
	for name, tt := range map[string]struct {
		err  error
		exit ExitCode
		want []string
	}{
		"no basic auth": {refused("ecr:InitiateLayerUpload", 401, "UNAUTHORIZED", "no basic auth credentials"),
			ExitPermission, []string{"web: ", "does not accept the token"}},
		"identity-based": {refused("ecr:PutImage", 403, "DENIED",
			user+"ecr:PutImage on resource: arn:aws:ecr:ap-northeast-1:123456789012:repository/shop because no identity-based policy allows the ecr:PutImage action"), ExitPermission, []string{"assumed-role/ci/b is not allowed to call ecr:PutImage for shop", `"ecr:PutImage"`, "repository/shop"}},
		"resource-based": {refused("ecr:PutImage", 403, "DENIED",
			user+"ecr:PutImage on resource: arn:aws:ecr:ap-northeast-1:123456789012:repository/shop because no resource-based policy allows the ecr:PutImage action"), ExitPermission, []string{"the repository belongs to another account"}},
		"HEAD without words": {refused("ecr:BatchCheckLayerAvailability", 403, "", ""), ExitPermission,
			[]string{"the role of this run is not allowed to call ecr:BatchCheckLayerAvailability"}},
		"no repository": {refused("ecr:InitiateLayerUpload", 404, "NAME_UNKNOWN",
			"The repository with name 'shop' does not exist in the registry with id '123456789012'"), ExitOther, []string{"the repository shop does not exist", "aws ecr create-repository --region ap-northeast-1 --repository-name shop"}},
		"immutable, old wording": {refused("ecr:PutImage", 400, "TAG_INVALID",
			"The image tag 'v1' already exists in the 'shop' repository and cannot be overwritten because the repository is immutable."), ExitOther, []string{"the tag v1 of shop names another image"}},
		"immutable, new wording": {refused("ecr:PutImage", 400, "TAG_INVALID",
			"The image tag 'v1' already exists in the 'shop' repository and cannot be overwritten because the tag is immutable."), ExitOther, []string{"the tag v1 of shop names another image"}},
		"throttled": {refused("ecr:PutImage", 429, "TOOMANYREQUESTS", "Rate exceeded"), ExitOther,
			[]string{"throttling", "ecr:PutImage"}},
		"a server's error": {refused("ecr:PutImage", 500, "UNKNOWN", "internal"), ExitOther,
			[]string{"status 500", "internal"}},
		"dropped at the start": {&registry.Error{Host: host, Repository: "shop", Action: "ecr:InitiateLayerUpload",
			Err: io.EOF}, ExitUnreachable, []string{"drops the connection", "ECR does that where a repository does not exist", "aws ecr create-repository"}},
		"a proxy that refuses": {&registry.Error{Host: host, Repository: "shop", Action: "ecr:InitiateLayerUpload",
			Err: &httptransport.ProxyError{Proxy: "proxy:3128",
				Status: 403}}, ExitUnreachable, []string{"could not be reached", "the proxy proxy:3128 answers 403 Forbidden", "NO_PROXY"}},
		"no proxy there": {&registry.Error{Host: host, Repository: "shop", Action: "ecr:InitiateLayerUpload",
			Err: &httptransport.ProxyError{Proxy: "proxy:3128",
				Err: errors.New("refused")}}, ExitUnreachable, []string{"cannot be reached: refused", "correct HTTPS_PROXY"}},
		"a firewall's page": {refusedPlainly("ecr:InitiateLayerUpload", 403), ExitUnreachable,
			[]string{"something between here and the registry", "NO_PROXY"}},
		"a name at the start": {&registry.Error{Host: host, Repository: "shop", Action: "ecr:InitiateLayerUpload",
			Err: &net.DNSError{Err: "no such host", Name: host}}, ExitUnreachable, []string{"the registry " + host +
			" could not be reached"}},
		"a silent registry": {&registry.Error{Host: host, Repository: "shop", Action: "ecr:PutImage",
			Err: &httptransport.StalledError{After: time.Minute}}, ExitUnreachable, []string{"could not be reached", "no data for 1m0s"}},
		"AWS is silent": {&aws.Error{Action: "ssm:GetParameters",
			Err: &httptransport.StalledError{After: time.Minute}}, ExitUnreachable, []string{"ssm:GetParameters could not be reached", "no data for 1m0s"}},
		"no way there": {&registry.Error{Host: host, Repository: "shop", Action: "ecr:BatchCheckLayerAvailability",
			Err: &net.DNSError{Err: "no such host",
				Name: host}}, ExitUnreachable, []string{"could not be reached", "no such host"}},

		"pull limit, old wording": {build("failed to solve: base:1: toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating"), ExitPermission, []string{"Docker Hub's pull limit", "anonymous: no parameters"}},
		"pull limit, new wording": {build("failed to solve: base:1: 429 Too Many Requests - Server message: toomanyrequests: You have reached your unauthenticated pull rate limit."), ExitPermission, []string{"Docker Hub's pull limit", "public.ecr.aws"}},
		"pull denied":             {build("failed to solve: private/base: pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"), ExitPermission, []string{"cannot pull a base image"}},
		"a registry hangs": {&builder.StalledPullError{Image: "web", Base: "docker.io/library/base:1",
			After: 3 * time.Minute},
			ExitUnreachable, []string{"web: the registry of docker.io/library/base:1 does not answer the engine",
				"nothing for 3m0s", "network"}},
		"a full disk": {build("failed to solve: ResourceExhausted: write /var/lib/docker/overlay2/x/diff/data: no space left on device"),
			ExitBuild, []string{"no space left on device", "make room on the engine's disk", "docker builder prune"}},
		"a full disk, told by a step": {&builder.BuildError{Image: "web", Step: "[2/2] RUN npm ci", ExitCode: 228,
			Output: []string{"npm error nospc ENOSPC: no space left on device, write"}, Err: errors.New("exit code: 228")},
			ExitBuild, []string{"exit code 228", "make room on the engine's disk"}},
		"no such host": {build("failed to solve: ghcr.oi/x/y: dial tcp: lookup ghcr.oi: no such host"),
			ExitUnreachable, []string{"could not reach a base image's registry"}},
		"an ECR base's manifest": {build("failed to solve: failed to resolve source metadata for 210987654321.dkr.ecr.eu-west-1.amazonaws.com/team/base:1: unexpected status from HEAD request to https://210987654321.dkr.ecr.eu-west-1.amazonaws.com/v2/team/base/manifests/1: 403 Forbidden"), ExitPermission, []string{"is not allowed to call ecr:BatchGetImage for team/base", "arn:aws:ecr:eu-west-1:210987654321:repository/team/base"}},
		"an ECR base's layer":    {build("failed to copy: httpReadSeeker: failed open: unexpected status from GET request to https://210987654321.dkr-ecr.eu-west-1.on.aws/v2/base/blobs/sha256:1: 403 Forbidden"), ExitPermission, []string{"is not allowed to call ecr:GetDownloadUrlForLayer for base"}},
		"an ECR base, 20.10": {&builder.BuildError{Image: "web",
			Step: "[internal] load metadata for 210987654321.dkr.ecr.eu-west-1.amazonaws.com/base:1", Err: errors.New("pulling from host 210987654321.dkr.ecr.eu-west-1.amazonaws.com failed with status code [manifests 1]: 403 Forbidden")}, ExitPermission, []string{"is not allowed to call ecr:BatchGetImage for base"}},
		"another platform": {&builder.BuildError{Image: "web", ExitCode: 1,
			Output: []string{"exec /bin/sh: exec format error"},
			Err:    errors.New("exit code: 1")}, ExitBuild, []string{"programs of another platform", "tonistiigi/binfmt"}},
		"a base that is not there": {build("failed to solve: docker.io/library/nothing:1: not found"), ExitBuild,
			[]string{"there is no base image docker.io/library/nothing:1"}},
		"a file, 20.10": {build(`failed to compute cache key: "/x.txt" not found: not found`), ExitBuild,
			[]string{"/x.txt is not in the build context"}},
		"a file, today": {build(`failed to solve: failed to compute cache key: failed to calculate checksum of ref a::b: "/x.txt": not found`), ExitBuild, []string{"/x.txt is not in the build context"}},
		"something new": {build("failed to solve: the moon is full"), ExitBuild,
			[]string{"why: the moon is full"}},

		"no permission for SSM": {awsError("ssm:GetParameters", "AccessDeniedException",
			user+"ssm:GetParameters on resource: arn:aws:ssm:ap-northeast-1:123456789012:parameter/a because no identity-based policy allows the ssm:GetParameters action", "a"), ExitPermission, []string{"is not allowed to call ssm:GetParameters for a", "arn:aws:ssm:ap-northeast-1:123456789012:parameter/a"}},
		"KMS": {awsError("ssm:GetParameters", "AccessDeniedException",
			"User: arn:aws:sts::123456789012:assumed-role/ci/b is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:ap-northeast-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab", "a"), ExitPermission, []string{"KMS refused to decrypt a", "key/1234abcd-12ab"}},
		"expired AWS credentials": {awsError("ecr:GetAuthorizationToken", "ExpiredTokenException",
			"The security token included in the request is expired"), ExitPermission, []string{"have expired"}},
		"wrong AWS credentials": {awsError("ecr:GetAuthorizationToken", "UnrecognizedClientException",
			"The security token included in the request is invalid."), ExitPermission, []string{"AWS does not accept these credentials"}},
		"AWS out of reach": {&aws.Error{Action: "ecr:GetAuthorizationToken",
			Err: &net.OpError{Op: "dial", Err: errors.New("i/o timeout")}}, ExitUnreachable, []string{"could not be reached", "VPC without NAT"}},
		"AWS says something else": {awsError("ecr:GetAuthorizationToken", "ServerException", "oops"), ExitOther,
			[]string{"ServerException: oops"}},
		"a secret's key": {&aws.MissingError{Service: "Secrets Manager", Region: "ap-northeast-1",
			Names: []string{"a#b"}, Why: "its keys are c"}, ExitPermission, []string{"its keys are c"}},

		"tags that had moved": {&pipeline.TagsError{Moved: []string{"a:v1"},
			Err: refused("ecr:PutImage", 400, "TAG_INVALID",
				"immutable")}, ExitOther, []string{"these tags had moved before: a:v1"}},
		"relays that end": {fmt.Errorf("web: %w", dockerpush.ErrRelayEnded), ExitUnreachable,
			[]string{"the relay of ecsbuild on the engine's host", "docker events"}},
		"an engine that went away": {&endpoint.UnreachableError{Endpoint: endpoint.Endpoint{Docker: "unix:///d.sock"},
			Lost: true, Err: errors.New("EOF")}, ExitUnreachable, []string{"went away during the build"}},
		"a key of another engine": {&builder.UnsupportedError{Image: "web", Key: "reproducible",
			Engine: "Docker engine 25", Fix: "take another"}, ExitConfig, []string{"web: this engine cannot do reproducible", "the build runs on Docker engine 25", "take another"}},
		"an SSM parameter": {&aws.MissingError{Service: "SSM", Region: "ap-northeast-1", Names: []string{"a"}},
			ExitPermission, []string{"SSM has no a",
				"aws ssm put-parameter --region ap-northeast-1 --type SecureString --name a"}},
		"a secret": {&aws.MissingError{Service: "Secrets Manager", Region: "ap-northeast-1",
			Names: []string{"a"}}, ExitPermission, []string{"aws secretsmanager create-secret --region ap-northeast-1 --name a"}},
		"no AWS credentials": {&aws.Error{Action: "ecr:GetAuthorizationToken",
			Err: errors.New("get identity: get credentials: failed to refresh cached credentials, no EC2 IMDS role found")}, ExitPermission, []string{"no AWS credentials were found", "aws sso login"}},
		"a wrong hub password": {&baseimage.RefusedError{Account: plan.Account{Username: "u",
			From: "env:DOCKER_USER"}}, ExitPermission, []string{"Docker Hub does not accept the account u (env:DOCKER_USER)", "hub.docker.com"}},
		"docker's own account": {&baseimage.RefusedError{Account: plan.Account{Username: "u", From: "docker login"}},
			ExitPermission, []string{"  docker login"}},
		"a foreign file": {&artifact.ForeignError{File: artifact.File{Path: "/src/a.json",
			Kind: artifact.Report, Flag: "--report"}}, ExitConfig, []string{"/src/a.json already exists, and it is not the report of an earlier run", "choose another name (--report)"}},
		"a file, early": {&artifact.Error{File: "a", Early: true,
			Err: &os.PathError{Op: "open", Path: "/a",
				Err: os.ErrPermission}}, ExitOther, []string{"cannot write a", "/a: permission denied", "nothing has been built yet"}},
		"a file, in between": {&artifact.Error{File: "a", Err: errors.New("full")}, ExitOther,
			[]string{"cannot write a"}},
		"a file, late": {&artifact.Error{File: "a", Late: true, Err: errors.New("full")}, ExitOther,
			[]string{"every image is in the registry under its tags"}},
		"no room for a layer": {&layer.SpoolError{Folder: "/tmp", Err: errors.New("no space left on device")},
			ExitOther, []string{"cannot keep a layer in /tmp", "export TMPDIR"}},
		"a tag that must be free": {&registry.TagTakenError{Repository: "shop", Tag: "v1", Digest: "sha256:1",
			Why: "on_immutable is fail"}, ExitOther, []string{"the tag v1 of shop already exists", "it names sha256:1, and on_immutable is fail"}},
		"too long": {fmt.Errorf("waiting: %w", context.DeadlineExceeded), ExitUnreachable,
			[]string{"the run took too long"}},
		"a configuration": {&fault.Error{Place: "ecsbuild.yml:3:5", File: "/src/ecsbuild.yml",
			What: "unknown key", Why: "it is", Fix: "leave it out"}, ExitConfig, []string{"ecsbuild.yml:3:5: unknown key", "leave it out"}},
		"a Dockerfile": {&dockerfile.ParseError{Image: "web", File: "/src/Dockerfile",
			Lines: []dockerfile.Line{{Number: 2, Text: "COPPY",
				At: true}}, Err: errors.New("dockerfile parse error on line 2: unknown instruction: COPPY")}, ExitBuild, []string{"web: the Dockerfile does not parse", "Dockerfile:2", ">   2  COPPY"}},
		"an address that is not public": {&registry.Error{Host: host, Repository: "shop", Action: "ecr:UploadLayerPart",
			Err: &httptransport.AddressError{Host: "x",
				IP: netip.MustParseAddr("169.254.169.254")}}, ExitOther, []string{"an address that is not public", "169.254.169.254"}},
		"an upload without TLS": {&registry.Error{Host: host, Repository: "shop", Action: "ecr:InitiateLayerUpload",
			Err: &registry.LocationError{Err: errors.New("the registry sends the upload to x without TLS")}}, ExitOther,
			[]string{"gives an address for the upload that cannot be used", "to x without TLS", "nothing was sent there"}},
		"the words of Docker Hub": {build("failed to solve: base:1: toomanyrequests: You have reached your pull rate limit."),
			ExitPermission, []string{"why: toomanyrequests: You have reached your pull rate limit."}},
		"another registry's limit": {build("failed to solve: ghcr.io/x/y:1: toomanyrequests: slow down"), ExitPermission,
			[]string{"a base image's registry is throttling"}},
		"killed": {&builder.BuildError{Image: "web", Step: "[1/1] RUN x", ExitCode: 137,
			Err: errors.New("exit code: 137")}, ExitBuild, []string{"lack of memory"}},
		"a private base": {build("failed to solve: ghcr.io/x/y:1: pull access denied, repository does not exist"),
			ExitPermission, []string{"ghcr.io was asked with the account u"}},
		"an unknown registry's": {build("failed to solve: quay.io/x/y:1: pull access denied"), ExitPermission,
			[]string{"quay.io was asked anonymously"}},
		"nobody knows": {fmt.Errorf("something: %w", errors.New("unheard of")), ExitOther,
			[]string{"something: unheard of"}},
	} {
		t.Run(name, func(t *testing.T) { checkFinding(t, tt.err, strings.Contains(name, "CodeBuild"), tt.exit, tt.want...) })
	}
}

// checkFinding sees that an error is explained once, with an exit code and with words.
func checkFinding(t *testing.T, err error, codebuild bool, exit ExitCode, want ...string) {
	t.Helper()
	facts := Facts{Scope: iampolicy.Scope{Region: "ap-northeast-1", Account: "123456789012"}, Anonymous: "no parameters",
		Used: func(host string) (plan.Account, bool) { return plan.Account{Username: "u"}, host == "ghcr.io" }}
	if codebuild {
		facts.Project = "shop-build"
	}
	found := Explain(err, facts)
	if len(found) != 1 || found[0].Exit != exit {
		t.Fatalf("%+v, want one with exit %d", found, exit)
	}
	f := found[0]
	text := f.What + "\nwhy: " + f.Why + "\n" + strings.Join(append(f.Detail, f.Do...), "\n")
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in:\n%s", w, text)
		}
	}
	if strings.ContainsAny(f.What, "*&{") {
		t.Errorf("it looks like Go: %s", f.What)
	}
}

func TestSplit(t *testing.T) {
	err := errors.Join(
		&pipeline.ImageError{Image: plan.Image{Containers: []string{"a"}},
			Err: errors.Join(refused("x", 404, "NAME_UNKNOWN", ""), nil)},
		fault.Errors{{What: "one"}, {What: "two"}}, &fault.Error{What: "one"})
	found := Explain(err, Facts{})
	if len(found) != 3 {
		t.Errorf("%d findings: %+v", len(found), found)
	}
}

// TestMap changes every text, and not the finding that it was called on.
func TestMap(t *testing.T) {
	f := Finding{What: "a", Why: "a", Detail: []string{"a"}, Do: []string{"a"}}
	got := f.Map(func(string) string { return "b" })
	if got.What+got.Why+got.Detail[0]+got.Do[0] != "bbbb" || f.Detail[0]+f.Do[0] != "aa" {
		t.Errorf("%+v, %+v", got, f)
	}
}

func TestSentence(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{{nil, ""}, {errors.New("x"), "x"}, {&fault.Error{What: "x", Why: "y"}, "x: y"}} {
		if got := Sentence(tt.err, Facts{}); got != tt.want {
			t.Errorf("%v: %q", tt.err, got)
		}
	}
}

// TestPlace: a finding of the configuration names file and line.
func TestPlace(t *testing.T) {
	f := Explain(&fault.Error{Place: "ecsbuild.yml:3:5", File: "/src/ecsbuild.yml", What: "x"}, Facts{})[0]
	if f.File != "/src/ecsbuild.yml" || f.Line != 3 {
		t.Errorf("%+v", f)
	}
}
