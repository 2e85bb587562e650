package diagnose

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/httptransport"
	"github.com/ecsbuild/ecsbuild/internal/iampolicy"
)

// caller names the caller as a refusal spelled it.
func caller(message string) string {
	if arn := aws.CallerARN(message); arn != "" {
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
			resources = append(resources, f.ParameterARN(n))
		case service == "secretsmanager":
			resources = append(resources, f.InCaller("secretsmanager", "secret:"+n+"-??????"))
		case service == "ecr", service == "ecr-public":
			resources = append(resources, f.Repository(n))
		case service == "kms":
			resources = append(resources, n)
		}
	}
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	return append([]string{"add this statement to the role's policy:"},
		iampolicy.Statement([]string{action}, resources...)...)
}

var callerAccount = regexp.MustCompile(`::([0-9]{12}):`)

// kmsKey finds the key in the words with which SSM passes on KMS's refusal.
var kmsKey = regexp.MustCompile(`arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[0-9a-fA-F-]+`)

func (f Facts) aws(e *aws.Error) Finding {
	msg, code := e.Message(), e.Code()
	if m := callerAccount.FindStringSubmatch(aws.CallerARN(msg)); m != nil {
		f.Caller = m[1]
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
		found.Why = "AWS does not answer in " + f.RegionName() + ": " + msg
		found.Do = []string{"check the region, and that the build can reach AWS (a VPC without NAT needs endpoints for ecr.api, ecr.dkr, ssm and s3)"}
		found.Exit = ExitUnreachable
		var proxy *httptransport.ProxyError
		if errors.As(e.Err, &proxy) {
			found.Why, found.Do = proxy.Error(), proxyFix(proxy)
		}
	case e.IsKMS():
		found.What = "KMS refused to decrypt " + names
		key := kmsKey.FindString(msg)
		if key == "" {
			key = f.InCaller("kms", "key/KEY-ID")
		}
		found.Do = f.grant("kms:Decrypt", []string{key})
	case e.IsDenied():
		found.What = fmt.Sprintf("%s is not allowed to call %s", caller(msg), e.Action)
		if names != "" {
			found.What += " for " + names
		}
		found.Do = f.grant(e.Action, e.Resources)
		if m := deniedAction.FindStringSubmatch(msg); m != nil && len(e.Resources) == 0 {
			found.Do = append(found.Do[:1], iampolicy.Statement([]string{m[1]}, m[2])...)
		}
	case strings.Contains(code, "Expired") || code == "RequestExpired":
		found.What = "the AWS credentials have expired"
		found.Do = []string{"sign in again (aws sso login), or assume the role again"}
	case code == "UnrecognizedClientException" || code == "InvalidClientTokenId" || code == "InvalidSignatureException" ||
		code == "SignatureDoesNotMatch":
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
	return strings.Contains(msg, "failed to refresh cached credentials") ||
		strings.Contains(msg, "get identity: get credentials") || strings.Contains(msg, "failed to get shared config profile")
}

func (f Facts) missing(e *aws.MissingError) Finding {
	found := Finding{What: fmt.Sprintf("%s has no %s", e.Service, strings.Join(e.Names, ", ")),
		Why: "there is nothing of that name in " + e.Region, Exit: ExitPermission}
	if e.Why != "" {
		found.Why = e.Why
		return found
	}
	found.Do = []string{"create it, or correct the name:"}
	for _, n := range e.Names {
		if e.Service == "SSM" {
			found.Do = append(found.Do, fmt.Sprintf("  aws ssm put-parameter --region %s --type SecureString --name %s --value …", e.Region, n))
		} else {
			found.Do = append(found.Do, fmt.Sprintf("  aws secretsmanager create-secret --region %s --name %s --secret-string …",
				e.Region, n))
		}
	}
	return found
}
