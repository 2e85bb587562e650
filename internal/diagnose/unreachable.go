package diagnose

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/endpoint"
)

// noTLS are the words of a connection that the certificates do not allow. A server that asks for TLS,
// or for another certificate, may also end it without a word.
var (
	noTLS  = regexp.MustCompile(`\btls: |\bx509: |^configure TLS: `)
	cutOff = regexp.MustCompile(`broken pipe|connection reset by peer|error reading server preface: EOF`)
)

func (f Facts) unreachable(e *endpoint.UnreachableError) Finding {
	found := Finding{What: "there is no Docker engine at " + e.Endpoint.String(), Why: e.Err.Error(),
		Exit: ExitUnreachable}
	switch {
	case e.Fix != "":
		found.What, found.Why, found.Do = e.Err.Error(), "", []string{e.Fix}
	case e.Lost:
		found.What = "the engine at " + e.Endpoint.String() + " went away during the build"
		found.Do = []string{"look into its log for why (memory, disk or the network are the usual reasons), and run again"}
	case e.Endpoint.BuildKit != "":
		return noBuildKit(e, found)
	case strings.HasPrefix(e.Endpoint.Docker, "ssh://"):
		found.Do = []string{"try it by hand: ssh to that host, and docker version there"}
	case noTLS.MatchString(found.Why) || strings.Contains(found.Why, "HTTP request to an HTTPS server"):
		found.What = "no TLS connection to the Docker engine at " + e.Endpoint.String()
		found.Do = []string{"check the certificates on both sides; with DOCKER_TLS_VERIFY=1, DOCKER_CERT_PATH names the " +
			"folder of those here: ca.pem, cert.pem and key.pem"}
		if e.Endpoint.Context != "" {
			found.Do = []string{"check the certificates on both sides; docker context update " + e.Endpoint.Context +
				" --docker host=…,ca=…,cert=…,key=… changes those here"}
		}
	case strings.HasPrefix(e.Endpoint.Docker, "tcp://"):
		found.Do = []string{"start it there, or say where another one is with DOCKER_HOST or docker context use"}
	case f.Project != "":
		found.Do = []string{"tick Privileged in the CodeBuild project (Edit, Environment, Additional configuration), or:",
			fmt.Sprintf(`  aws codebuild update-project --name %[1]s --environment "$(aws codebuild batch-get-projects --names %[1]s --query 'projects[0].environment' --output json | jq .privilegedMode=true)"`, f.Project)}
	case strings.Contains(found.Why, "permission denied"):
		found.What = "the Docker engine at " + e.Endpoint.String() + " does not let this user in"
		found.Do = []string{"run as root, or join its group:", "  sudo usermod -aG docker $USER"}
	default:
		found.Do = []string{"start Docker, or say where it is with DOCKER_HOST or docker context use"}
	}
	return found
}

// programWords are docker's words for a program that ends at once, also where it is not docker's.
const programWords = ", make sure the URL is valid, and Docker 18.09 or later is installed on the remote host"

func noBuildKit(e *endpoint.UnreachableError, found Finding) Finding {
	found.What = "there is no buildkitd at " + e.Endpoint.String()
	found.Why = strings.Replace(found.Why, programWords, "", 1)
	found.Do = []string{"start it, or use the Docker engine: unset BUILDKIT_HOST, or leave out builder (ECSBUILD_BUILDER)"}
	switch {
	case noTLS.MatchString(found.Why) || strings.HasPrefix(e.Endpoint.BuildKit, "tcp://") && cutOff.MatchString(found.Why):
		found.What = "no TLS connection to the buildkitd at " + e.Endpoint.String()
		found.Do = []string{"check the certificates on both sides; BUILDKIT_CERT_PATH names the folder of those here: " +
			"ca.pem, and cert.pem and key.pem where it asks for one"}
	case strings.Contains(found.Why, "executable file not found"):
		found.What = "cannot run what reaches the buildkitd at " + e.Endpoint.String()
		found.Do = []string{"install the program that is not there"}
	}
	if strings.Contains(found.Why, "looked like an HTTP/1.1 header") {
		found.Do = []string{"name the port of a buildkitd: what listens there is another server"}
	}
	if name := e.Endpoint.Buildx(); name != "" {
		found.Do = []string{"docker buildx inspect --bootstrap " + name + " starts it, or says what is wrong"}
	}
	return found
}
