package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/ecsbuild/ecsbuild/internal/fault"
)

// The patterns are ECR's and ECS's own.
// https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html
// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
var (
	repositoryPattern = regexp.MustCompile(`^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*$`)
	tagPattern        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	containerPattern  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	accountPattern    = regexp.MustCompile(`^[0-9]{12}$`)
	hostPattern       = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)
	commitPattern     = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

	// A direction in the middle tells a new region from a typo, so that a
	// region opened tomorrow works without a new release.
	regionPattern = regexp.MustCompile(`^(us|eu|ap|sa|ca|me|af|il|mx|cn|us-gov|us-isof?|us-isob|eu-isoe|eusc-de)-(north|south|east|west|central|northeast|northwest|southeast|southwest)-[1-9][0-9]?$`)
)

// regions are what a typo is compared with; a region may be missing here.
var regions = strings.Fields(`
af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2
ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7
ca-central-1 ca-west-1 cn-north-1 cn-northwest-1 eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2
eu-west-1 eu-west-2 eu-west-3 eusc-de-east-1 il-central-1 me-central-1 me-south-1 mx-central-1 sa-east-1
us-east-1 us-east-2 us-gov-east-1 us-gov-west-1 us-west-1 us-west-2 us-iso-east-1 us-iso-west-1 us-isob-east-1
eu-isoe-west-1 us-isof-east-1 us-isof-south-1`)

func checkRegion(r string) *fault.Error {
	if regionPattern.MatchString(r) {
		return nil
	}
	fix := "set AWS_REGION or AWS_DEFAULT_REGION, or region in ecsbuild.yml, to the region of your registry, as in us-east-1"
	if c := fault.Closest(r, regions); c != "" {
		fix = fmt.Sprintf("did you mean %s?", c)
	}
	return &fault.Error{What: fmt.Sprintf("%q is not an AWS region", r), Fix: fix}
}

func checkAccount(a string) *fault.Error {
	if accountPattern.MatchString(a) {
		return nil
	}
	fix := "an account ID has 12 digits"
	if len(a) < 12 && regexp.MustCompile(`^[0-9]+$`).MatchString(a) {
		fix += "; if yours begins with a zero, put it in quotes"
	}
	return &fault.Error{What: fmt.Sprintf("%q is not an AWS account", a), Fix: fix}
}

func checkRepository(r string) *fault.Error {
	first, _, _ := strings.Cut(r, "/")
	isHost := strings.Contains(first, ".dkr.") || strings.Contains(first, ".dkr-ecr")
	if len(r) >= 2 && len(r) <= 256 && repositoryPattern.MatchString(r) && !isHost {
		return nil
	}
	e := &fault.Error{What: fmt.Sprintf("%q is not a repository name", r),
		Fix: "ECR takes 2 to 256 lower-case letters, digits and . _ - /, as in shop/php"}
	if first, rest, ok := strings.Cut(r, "/"); ok && strings.ContainsAny(first, ".:") {
		e.Fix = fmt.Sprintf("leave the host out: %s; the registry comes from region and account", rest)
	} else if name, _, ok := strings.Cut(r, ":"); ok {
		e.Fix = fmt.Sprintf("leave the tag out: %s; tags come from IMAGE_TAG or tags", name)
	} else if l := strings.ToLower(r); l != r && repositoryPattern.MatchString(l) {
		e.Fix = fmt.Sprintf("repository names are lower case: %s", l)
	}
	return e
}

func checkTag(t string) *fault.Error {
	if tagPattern.MatchString(t) {
		return nil
	}
	if t == "" {
		return &fault.Error{What: "a tag is empty",
			Fix: "a variable in it may be unset: give it a default, as in ${IMAGE_TAG:-latest}"}
	}
	return &fault.Error{What: fmt.Sprintf("%q is not a tag", t),
		Fix: "a tag has at most 128 letters, digits and _ . - and starts with none of . -"}
}

// splitTags takes a text of one tag or several, with commas or spaces between them.
func splitTags(text string) []string {
	return unique(strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }))
}

// checkTags checks a text of one tag or several.
func checkTags(text string) *fault.Error {
	tags := splitTags(text)
	if len(tags) == 0 {
		return checkTag("")
	}
	for _, t := range tags {
		if e := checkTag(t); e != nil {
			return e
		}
	}
	return nil
}

func checkContainer(c string) *fault.Error {
	if containerPattern.MatchString(c) {
		return nil
	}
	return &fault.Error{What: fmt.Sprintf("%q is not a container name", c),
		Fix: "ECS takes up to 255 letters, digits, - and _; use the name in your task definition"}
}

// IsRegion says whether a name is a region's, or could be one of tomorrow's.
func IsRegion(r string) bool { return regionPattern.MatchString(r) }

// ClosestRegion is the region that a typo most likely stood for, or "".
func ClosestRegion(r string) string { return fault.Closest(r, regions) }
