// Package diagnose knows what a failure means and what to do about it.
package diagnose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/engine"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// The exit codes of a run.
const (
	ExitBuild       = 1 // a build failed
	ExitConfig      = 2 // usage or configuration
	ExitPermission  = 3 // credentials or permissions refused
	ExitUnreachable = 4 // the engine, AWS or a registry could not be reached
	ExitOther       = 5 // a push or the definitions failed for another reason
)

// A Finding says what failed, why, and what to do.
type Finding struct {
	What   string
	Why    string
	Detail []string // lines to read: a Dockerfile's excerpt, the end of a log
	Do     []string // lines to follow; those that begin with a space are to be pasted
	Exit   int
}

// Facts is what a diagnosis knows of the run beside the error.
type Facts struct {
	Region    string
	Account   string
	Project   string // the CodeBuild project that the run is in, "" elsewhere
	Anonymous string // why Docker Hub was asked without an account, "" where it was not
	Refused   error  // what stood behind that, or nil
}

// Explain turns the errors of a run into findings, each cause once. The exit
// code of the run is that of the first.
func Explain(err error, f Facts) (out []Finding) {
	add := func(found Finding) {
		for _, o := range out {
			if o.What == found.What {
				return
			}
		}
		out = append(out, found)
	}
	for _, e := range split(err) {
		add(f.one(e))
	}
	return out
}

// split takes joined errors apart, also the ones of an image.
func split(err error) (out []error) {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			out = append(out, split(one)...)
		}
	case *pipeline.ImageError:
		for _, one := range split(e.Err) {
			out = append(out, &pipeline.ImageError{Image: e.Image, Err: one})
		}
	default:
		out = []error{err}
	}
	return out
}

func (f Facts) one(err error) Finding {
	var (
		cfg         *plan.Error
		aws         *registry.AWSError
		missing     *registry.MissingError
		reg         *registry.Error
		unreachable *engine.UnreachableError
		unsupported *engine.UnsupportedError
		build       *engine.BuildError
		defs        *pipeline.DefinitionsError
		tags        *pipeline.TagsError
		hub         *registry.HubRefusedError
		taken       *registry.TakenError
	)
	switch {
	case errors.As(err, &tags):
		found := f.one(tags.Err)
		found.Why += "; these tags had moved before: " + strings.Join(tags.Moved, ", ")
		return found
	case errors.As(err, &cfg):
		return configuration(cfg)
	case errors.As(err, &unsupported):
		return Finding{What: fmt.Sprintf("%s: this engine cannot do %s", unsupported.Image, unsupported.Key), Why: "the build runs on " + unsupported.Engine, Do: []string{unsupported.Fix}, Exit: ExitConfig}
	case errors.As(err, &missing):
		return f.missing(missing)
	case errors.As(err, &aws):
		return f.aws(aws)
	case errors.As(err, &reg):
		found := f.registry(reg)
		var img *pipeline.ImageError
		if errors.As(err, &img) {
			found.What = img.Image.Name() + ": " + found.What
		}
		return found
	case errors.As(err, &taken):
		return Finding{What: fmt.Sprintf("the tag %s of %s is there already", taken.Tag, taken.Repository), Why: "it names " + taken.Digest + ", and on_immutable is fail", Do: []string{"give this build a tag of its own (IMAGE_TAG, such as the commit)"}, Exit: ExitOther}
	case errors.As(err, &hub):
		return Finding{What: "Docker Hub does not accept the account " + hub.User, Why: "the password or access token is wrong, or was revoked", Do: []string{"make an access token at hub.docker.com and put it where the password comes from, as in", "  aws ssm put-parameter --region " + f.region() + " --overwrite --type SecureString --name DOCKER_HUB_PASSWORD --value …"}, Exit: ExitPermission}
	case errors.As(err, &build):
		return f.build(build)
	case errors.As(err, &unreachable):
		return f.unreachable(unreachable)
	case errors.As(err, &defs) && defs.Removing:
		return Finding{What: "cannot take away the definitions of an earlier run, " + defs.File, Why: plain(defs.Err), Do: []string{"remove it; nothing has been built yet"}, Exit: ExitOther}
	case errors.As(err, &defs):
		return Finding{What: "cannot write " + defs.File, Why: plain(defs.Err), Do: []string{"every image is in the registry; make the folder writable and run again"}, Exit: ExitOther}
	case errors.Is(err, context.DeadlineExceeded):
		return Finding{What: "the run took too long", Why: plain(err), Exit: ExitUnreachable}
	}
	return Finding{What: plain(err), Exit: ExitOther}
}

// plain drops Go's way to say a path twice.
func plain(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return filepath.Clean(p.Path) + ": " + p.Err.Error()
	}
	return err.Error()
}

func configuration(e *plan.Error) Finding {
	what := e.What
	if e.Place != "" {
		what = e.Place + ": " + what
	}
	found := Finding{What: what, Why: e.Why, Exit: ExitConfig}
	if e.Fix != "" {
		found.Do = []string{e.Fix}
	}
	return found
}

// Statement is an IAM policy statement to paste.
func Statement(actions []string, resources ...string) []string {
	data, _ := json.MarshalIndent(struct {
		Effect   string
		Action   []string
		Resource []string
	}{"Allow", actions, resources}, "  ", "  ")
	return strings.Split("  "+string(data), "\n")
}

func (f Facts) account() string {
	if f.Account != "" {
		return f.Account
	}
	return "ACCOUNT"
}

func (f Facts) region() string {
	if f.Region != "" {
		return f.Region
	}
	return "REGION"
}

// partition is the second part of every ARN.
func (f Facts) partition() string {
	for prefix, p := range map[string]string{"cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso-": "aws-iso", "us-isob-": "aws-iso-b", "eu-isoe-": "aws-iso-e", "us-isof-": "aws-iso-f", "eusc-": "aws-eusc"} {
		if strings.HasPrefix(f.Region, prefix) {
			return p
		}
	}
	return "aws"
}

func (f Facts) arn(service, resource string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", f.partition(), service, f.region(), f.account(), resource)
}

// who names the caller as a refusal spelled it.
func who(message string) string {
	if arn := registry.CallerARN(message); arn != "" {
		return arn
	}
	return "the role of this run"
}

func (f Facts) grant(action string, names []string) []string {
	var resources []string
	for _, n := range names {
		switch service, _, _ := strings.Cut(action, ":"); {
		case strings.HasPrefix(n, "arn:"):
			resources = append(resources, n)
		case service == "ssm":
			resources = append(resources, f.arn("ssm", "parameter/"+strings.TrimPrefix(n, "/")))
		case service == "secretsmanager":
			resources = append(resources, f.arn("secretsmanager", "secret:"+n+"-??????"))
		case service == "ecr":
			resources = append(resources, f.arn("ecr", "repository/"+n))
		case service == "kms":
			resources = append(resources, n)
		}
	}
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	return append([]string{"add this statement to the role's policy:"}, Statement([]string{action}, resources...)...)
}

var callerAccount = regexp.MustCompile(`::([0-9]{12}):`)

// kmsKey finds the key in the words with which SSM passes on KMS's refusal.
var kmsKey = regexp.MustCompile(`arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[0-9a-fA-F-]+`)

func (f Facts) aws(e *registry.AWSError) Finding {
	msg, code := e.Message(), e.Code()
	if m := callerAccount.FindStringSubmatch(registry.CallerARN(msg)); m != nil && f.Account == "" {
		f.Account = m[1]
	}
	found := Finding{Why: msg, Exit: ExitPermission}
	names := strings.Join(e.Resources, ", ")
	switch {
	case code == "" && noCredentials(e.Err):
		found.What = "no AWS credentials were found"
		found.Why = e.Action + " is the first call that needs them"
		found.Do = []string{"in CodeBuild, give the project a service role; elsewhere set AWS_PROFILE, sign in with aws sso login, or try ecsbuild run --dry-run, which needs none"}
	case code == "":
		found.What = e.Action + " could not be reached"
		found.Why = "AWS does not answer in " + f.region() + ": " + e.Err.Error()
		found.Do = []string{"check the region, and that the build has a way to AWS (a VPC without NAT needs endpoints for ecr.api, ecr.dkr, ssm and s3)"}
		found.Exit = ExitUnreachable
	case e.IsKMS():
		found.What = "KMS does not let " + names + " be decrypted"
		key := kmsKey.FindString(msg)
		if key == "" {
			key = f.arn("kms", "key/KEY-ID")
		}
		found.Do = f.grant("kms:Decrypt", []string{key})
	case e.IsDenied():
		found.What = fmt.Sprintf("%s may not call %s", who(msg), e.Action)
		if names != "" {
			found.What += " for " + names
		}
		found.Do = f.grant(e.Action, e.Resources)
		if m := deniedAction.FindStringSubmatch(msg); m != nil && len(e.Resources) == 0 {
			found.Do = append(found.Do[:1], Statement([]string{m[1]}, m[2])...)
		}
	case strings.Contains(code, "Expired") || code == "RequestExpired":
		found.What = "the AWS credentials have expired"
		found.Do = []string{"sign in again (aws sso login), or let the role be assumed anew"}
	case code == "UnrecognizedClientException" || code == "InvalidClientTokenId" || code == "InvalidSignatureException" || code == "SignatureDoesNotMatch":
		found.What = "AWS does not accept these credentials"
		found.Do = []string{"check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or unset them to use a profile or role"}
	default:
		found.What, found.Exit = e.Action+" failed", ExitOther
		found.Why = code + ": " + msg
	}
	return found
}

// noCredentials recognises the SDK's failure to find any; it has no type for it.
func noCredentials(err error) bool {
	msg := err.Error()
	return strings.Contains(msg, "failed to refresh cached credentials") || strings.Contains(msg, "get identity: get credentials") || strings.Contains(msg, "failed to get shared config profile")
}

func (f Facts) missing(e *registry.MissingError) Finding {
	found := Finding{What: fmt.Sprintf("%s has no %s", e.Service, strings.Join(e.Names, ", ")), Why: "there is nothing of that name in " + e.Region, Exit: ExitPermission}
	if e.Why != "" {
		found.Why = e.Why
		return found
	}
	found.Do = []string{"create it, or correct the name:"}
	for _, n := range e.Names {
		if e.Service == "SSM" {
			found.Do = append(found.Do, fmt.Sprintf("  aws ssm put-parameter --region %s --type SecureString --name %s --value …", e.Region, n))
		} else {
			found.Do = append(found.Do, fmt.Sprintf("  aws secretsmanager create-secret --region %s --name %s --secret-string …", e.Region, n))
		}
	}
	return found
}

var deniedAction = regexp.MustCompile(`not authorized to perform: (\S+) on resource: (\S+)`)

func (f Facts) registry(e *registry.Error) Finding {
	code, msg := e.Code()
	if h := (registry.Host{Name: e.Host}); h.Account() != "" {
		f.Account, f.Region = h.Account(), h.Region()
	}
	region := f.region()
	found := Finding{Why: msg, Exit: ExitOther}
	switch status := e.Status(); {
	case status == 0 && e.Action == "ecr:InitiateLayerUpload":
		found.What = fmt.Sprintf("the registry drops the connection when an upload to %s begins", e.Repository)
		found.Why = fmt.Sprintf("%v; ECR does that where a repository does not exist", e.Err)
		found.Do = append(createRepository(e.Repository, region), "if it is there, check the way to "+e.Host)
		found.Exit = ExitUnreachable
	case status == 0:
		found.What = "the registry " + e.Host + " could not be reached"
		found.Why = e.Err.Error()
		found.Do = []string{"check region and account, and that the build has a way to it (a VPC without NAT needs endpoints for ecr.dkr and s3)"}
		found.Exit = ExitUnreachable
	case code == "NAME_UNKNOWN" || status == http.StatusNotFound && code == "":
		found.What = fmt.Sprintf("the repository %s does not exist in %s", e.Repository, e.Host)
		found.Do = createRepository(e.Repository, region)
	case code == "TAG_INVALID" || strings.Contains(msg, "immutable"):
		found.What = fmt.Sprintf("the tag %s of %s names another image already, and may not be moved", e.Tag, e.Repository)
		found.Do = []string{"give this build a tag of its own (IMAGE_TAG, such as the commit), or let tags be moved:",
			fmt.Sprintf("  aws ecr put-image-tag-mutability --region %s --repository-name %s --image-tag-mutability MUTABLE", region, e.Repository)}
	case status == http.StatusForbidden:
		action := e.Action
		if m := deniedAction.FindStringSubmatch(msg); m != nil {
			action = m[1]
		}
		found.What = fmt.Sprintf("%s may not call %s for %s", who(msg), action, e.Repository)
		found.Do, found.Exit = f.grant(action, []string{e.Repository}), ExitPermission
		if strings.Contains(msg, "resource-based") {
			found.Do = append(found.Do, "the repository's own policy takes part: another account's registry must name this role there")
		}
	case status == http.StatusUnauthorized:
		found.What = "the registry " + e.Host + " does not accept the token that ECR gave"
		found.Do, found.Exit = []string{"is account the registry's, and region too?"}, ExitPermission
	case status == http.StatusTooManyRequests:
		found.What = "the registry " + e.Host + " is throttling"
		found.Do = []string{"run again; with many builds at once, ask for a higher quota of " + e.Action}
	default:
		found.What = fmt.Sprintf("the registry %s refused a request for %s", e.Host, e.Repository)
		found.Why = fmt.Sprintf("status %d, %s %s", status, code, msg)
	}
	return found
}

func createRepository(name, region string) []string {
	return []string{"create it, or correct the name:", fmt.Sprintf("  aws ecr create-repository --region %s --repository-name %s", region, name)}
}

func (f Facts) unreachable(e *engine.UnreachableError) Finding {
	found := Finding{What: "there is no Docker engine at " + e.Endpoint.String(), Why: e.Err.Error(), Exit: ExitUnreachable}
	switch {
	case e.Lost:
		found.What = "the engine at " + e.Endpoint.String() + " went away during the build"
		found.Do = []string{"look into its log for why (memory and disk are the usual reasons), and run again"}
	case e.Endpoint.BuildKit != "":
		found.What = "there is no buildkitd at " + e.Endpoint.BuildKit
		found.Do = []string{"start it, or unset BUILDKIT_HOST to use the Docker engine"}
	case f.Project != "":
		found.Do = []string{"tick Privileged in the CodeBuild project (Edit, Environment, Additional configuration), or:",
			fmt.Sprintf(`  aws codebuild update-project --name %[1]s --environment "$(aws codebuild batch-get-projects --names %[1]s --query 'projects[0].environment' --output json | jq .privilegedMode=true)"`, f.Project)}
	case strings.Contains(e.Err.Error(), "permission denied"):
		found.What = "the Docker engine at " + e.Endpoint.String() + " does not let this user in"
		found.Do = []string{"run as root, or join its group:", "  sudo usermod -aG docker $USER"}
	default:
		found.Do = []string{"start Docker, or say where it is with DOCKER_HOST or docker context use"}
	}
	return found
}
