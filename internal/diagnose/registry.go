package diagnose

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/httptransport"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

var deniedAction = regexp.MustCompile(`not authorized to perform: (\S+) on resource: (\S+)`)

// impostor is what to do about an answer that no registry gives.
const impostor = "nothing was sent there; find out who answers in the registry's place: DNS, a proxy (HTTPS_PROXY), a VPC endpoint"

func (f Facts) registry(e *registry.Error) Finding {
	code, msg := e.Code()
	if h := (registry.Host{Name: e.Host}); h.Account() != "" {
		f.Account, f.Region = h.Account(), h.Region()
	}
	region := f.RegionName()
	found := Finding{Why: msg, Exit: ExitOther}
	var proxy *httptransport.ProxyError
	var address *httptransport.AddressError
	var location *registry.LocationError
	switch status := e.Status(); {
	case errors.As(e.Err, &proxy):
		found.What = "the registry " + e.Host + " could not be reached"
		found.Why, found.Do, found.Exit = proxy.Error(), proxyFix(proxy), ExitUnreachable
	case errors.As(e.Err, &address):
		found.What = fmt.Sprintf("the registry %s sends a request to an address that is not public", e.Host)
		found.Why = e.Err.Error()
		found.Do = []string{impostor}
	case errors.As(e.Err, &location):
		found.What = fmt.Sprintf("the registry %s gives an address for the upload that cannot be used", e.Host)
		found.Why = e.Err.Error()
		found.Do = []string{impostor}
	case status == 0 && e.IsAction("InitiateLayerUpload") && httptransport.Dropped(e.Err):
		found.What = fmt.Sprintf("the registry drops the connection when an upload to %s begins", e.Repository)
		found.Why = fmt.Sprintf("%v; ECR does that where a repository does not exist", e.Err)
		found.Do = append(f.CreateRepository(e.Repository), "if it exists, check the network on the way to "+e.Host)
		if httptransport.Proxied(e.Host) {
			found.Do = append(found.Do, "the connection goes through a proxy (HTTPS_PROXY), which may have ended it as well")
		}
		found.Exit = ExitUnreachable
	case status == 0 && e.IsAction("UploadLayerPart") && httptransport.Dropped(e.Err):
		found.What = fmt.Sprintf("uploads to %s keep being interrupted", e.Repository)
		found.Why = e.Err.Error()
		found.Do = []string{"run again; if it goes on, check the network on the way to " + e.Host +
			", and proxies (HTTPS_PROXY)"}
		found.Exit = ExitUnreachable
	case e.Foreign():
		found.What = fmt.Sprintf("something between here and the registry %s answers in its place", e.Host)
		found.Why = fmt.Sprintf("status %d, and not in the form in which a registry answers", status)
		found.Do, found.Exit = []string{"check proxies (HTTPS_PROXY, NO_PROXY), firewalls and VPC endpoint policies on the way there"}, ExitUnreachable
	case status == 0:
		found.What = "the registry " + e.Host + " could not be reached"
		found.Why = e.Err.Error()
		found.Do = []string{"check region and account, and that the build can reach it (a VPC without NAT needs endpoints for ecr.dkr and s3)"}
		found.Exit = ExitUnreachable
	case code == "NAME_UNKNOWN" || status == http.StatusNotFound && code == "":
		found.What = fmt.Sprintf("the repository %s does not exist in %s", e.Repository, e.Host)
		found.Do = f.CreateRepository(e.Repository)
	case e.IsImmutable():
		found.What = fmt.Sprintf("the tag %s of %s names another image already, and may not be moved", e.Tag, e.Repository)
		found.Do = []string{"give this build a tag of its own (IMAGE_TAG, such as the commit), or let tags be moved:",
			fmt.Sprintf("  aws ecr put-image-tag-mutability --region %s --repository-name %s --image-tag-mutability MUTABLE",
				region, e.Repository)}
	case status == http.StatusForbidden:
		action := e.Action
		if m := deniedAction.FindStringSubmatch(msg); m != nil {
			action = m[1]
		}
		found.What = fmt.Sprintf("%s is not allowed to call %s for %s", caller(msg), action, e.Repository)
		found.Do, found.Exit = f.grant(action, []string{e.Repository}), ExitPermission
		if strings.Contains(msg, "resource-based") {
			found.Do = append(found.Do, "the repository belongs to another account: its own policy must name this role")
		}
	case status == http.StatusUnauthorized:
		found.What = "the registry " + e.Host + " does not accept the token that ECR gave"
		found.Do, found.Exit = []string{"check that account and region are the registry's"}, ExitPermission
	case status == http.StatusTooManyRequests:
		found.What = "the registry " + e.Host + " is throttling"
		found.Do = []string{"run again; with many builds at once, ask for a higher quota of " + e.Action}
	default:
		found.What = fmt.Sprintf("the registry %s refused a request for %s", e.Host, e.Repository)
		found.Why = strings.TrimSpace(fmt.Sprintf("status %d, %s %s", status, code, msg))
		if status >= 500 {
			found.Do = []string{"run again in a while: the fault is the registry's"}
		}
	}
	return found
}

// proxyFix says what to do about a proxy.
func proxyFix(e *httptransport.ProxyError) []string {
	switch {
	case e.Status == http.StatusProxyAuthRequired:
		return []string{"give the proxy its user name and password, as in HTTPS_PROXY=http://USER:PASSWORD@" + e.Proxy}
	case e.Status != 0:
		return []string{"have the proxy let this host through, or go around it with NO_PROXY"}
	}
	return []string{"correct HTTPS_PROXY, or unset it"}
}

// CreateRepository is how a missing repository is made.
func (f Facts) CreateRepository(name string) []string {
	command := fmt.Sprintf("  aws ecr create-repository --region %s --repository-name %s", f.RegionName(), name)
	if f.Public {
		_, name, _ = strings.Cut(name, "/")
		command = "  aws ecr-public create-repository --region us-east-1 --repository-name " + name
	}
	return []string{"create it, or correct the name:", command}
}
