package buildspec

import (
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A template is a text as ecsbuild.yml has it: ${VAR} stands for a variable that is set
// outside of the buildspec, $$ for a dollar. What init knows beside variables stands between
// characters that no buildspec has.
const (
	callerAccount = "\uE000account\uE000" // the caller's own account
	callerRegion  = "\uE000region\uE000"  // the region of the AWS configuration
	sourceFolder  = "\uE000source\uE000"  // CODEBUILD_SRC_DIR
)

// cutOutside cuts a template at the first or last separator that is outside of ${…}.
func cutOutside(t string, separator byte, last bool) (before, after string, found bool) {
	depth, at := 0, -1
	for i := 0; i < len(t); i++ {
		switch {
		case strings.HasPrefix(t[i:], "${"):
			depth++
			i++
		case t[i] == '}' && depth > 0:
			depth--
		case t[i] == separator && depth == 0:
			if at < 0 || last {
				at = i
			}
		}
	}
	if at < 0 {
		return t, "", false
	}
	return t[:at], t[at+1:], true
}

// variable is the name of the variable that a template is alone, "" for another one.
func variable(t string) string {
	name, ok := strings.CutPrefix(t, "${")
	name, ok2 := strings.CutSuffix(name, "}")
	if !ok || !ok2 || strings.ContainsAny(name, "${}:-?+") {
		return ""
	}
	return name
}

// isFixed says whether a template has no variable in it.
func isFixed(t string) bool {
	return !strings.Contains(strings.ReplaceAll(t, "$$", ""), "$") && !strings.Contains(t, "\uE000")
}

// A reference is the name of an image, as docker's commands take it.
type reference struct {
	name string // with a registry, where there is one
	tag  string // latest where there is none
}

func parseReference(t string) reference {
	slash := 0
	if before, _, ok := cutOutside(t, '/', true); ok {
		slash = len(before)
	}
	name, tag, ok := cutOutside(t[slash:], ':', true)
	if !ok {
		return reference{t, "latest"}
	}
	return reference{t[:slash] + name, tag}
}

func (r reference) String() string { return r.name + ":" + r.tag }

// isPublic says whether the name of an image is one in ECR Public.
func isPublic(name string) bool { return strings.HasPrefix(name, plan.PublicRegistry+"/") }

// A destination is a repository in ECR, its account and region: "" where ecsbuild finds
// them by itself.
type destination struct{ account, region, repository string }

// destination reads the name of an image that is pushed. ok is false for one that is not in
// ECR, as far as it says.
// set says whether the buildspec sets a variable, which then is not what ecsbuild finds by
// itself.
func (r reference) destination(set func(variable string) bool) (d destination, ok bool) {
	host, rest, slash := cutOutside(r.name, '/', false)
	account, tail, isECR := strings.Cut(host, ".dkr.ecr.")
	switch {
	case isECR && slash:
		d.repository = rest
		region, _, found := strings.Cut(tail, ".amazonaws.com")
		if !found {
			return d, false
		}
		if v := variable(account); account != callerAccount && (v != "AWS_ACCOUNT_ID" || set(v)) {
			d.account = account
		}
		if v := variable(region); region != callerRegion && (v != "AWS_DEFAULT_REGION" || set(v)) {
			d.region = region
		}
		return d, true
	case host == plan.PublicRegistry && strings.Contains(rest, "/"):
		d.repository = r.name
		return d, true
	case strings.HasPrefix(r.name, "${"): // a URI, or its beginning, is in a variable
		d.repository = r.name
		return d, true
	}
	return d, false
}
