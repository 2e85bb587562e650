package config

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A destination is where an image goes: a repository, and the registry where a URI names it.
type destination struct {
	host            string // "" for the registry of the run
	account, region string // that the host names
	repository      string // "" for a registry alone
}

// ecrURI is a registry as ECR's URIs have it; the groups are account and region.
var ecrURI = regexp.MustCompile(`^([0-9]{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:` + ecrDomains + `)$`)

// ecrDomains are those of all partitions.
// https://docs.aws.amazon.com/general/latest/gr/ecr.html
const ecrDomains = `on\.aws|on\.amazonwebservices\.com\.cn|amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov`

// parseDestination reads the name of a repository, or its whole URI.
func parseDestination(text string) (d destination, _ *fault.Error) {
	text = strings.TrimSpace(text)
	if _, rest, ok := strings.Cut(text, "://"); ok {
		return d, &fault.Error{What: fmt.Sprintf("%q is an address, and not the URI of a repository", text), Fix: "leave the beginning out: " + rest}
	}
	first, rest, slash := strings.Cut(text, "/")
	m := ecrURI.FindStringSubmatch(first)
	switch {
	case m != nil:
		d = destination{host: first, account: m[1], region: m[2], repository: rest}
		if e := checkRegion(d.region); e != nil {
			return d, e
		}
		if rest == "" {
			return d, nil
		}
	case slash && (strings.Contains(strings.ToLower(first), ".dkr.ecr") || strings.Contains(strings.ToLower(first), ".dkr-ecr")):
		return d, &fault.Error{What: fmt.Sprintf("%q is not the URI of a repository in ECR", text),
			Fix: "write it as in 123456789012.dkr.ecr.us-east-1.amazonaws.com/" + rest + ", the account with its 12 digits, all in lower case"}
	case first == plan.PublicRegistry:
		d = destination{host: first, repository: rest}
		if !strings.Contains(rest, "/") {
			return d, &fault.Error{What: fmt.Sprintf("%q is not the URI of a repository in ECR Public", text),
				Fix: "write it as in " + plan.PublicRegistry + "/ALIAS/NAME; the console has the alias of your registry"}
		}
	case slash && strings.ContainsAny(first, ".:"):
		return d, &fault.Error{What: fmt.Sprintf("%q is not in Amazon ECR", text),
			Why: "ecsbuild pushes to registries of ECR, whose hosts are as in " +
				"123456789012.dkr.ecr.us-east-1.amazonaws.com, or " + plan.PublicRegistry,
			Fix: "name the repository alone, or its URI in ECR; push to " + first + " by another command"}
	default:
		d.repository = text
	}
	return d, checkRepository(d.repository)
}

// checkDestination is parseDestination for the file, where a registry alone is none.
func checkDestination(text string) *fault.Error {
	d, e := parseDestination(text)
	if e == nil && d.repository == "" {
		e = &fault.Error{What: fmt.Sprintf("%q names a registry and no repository", text), Fix: "add the repository, as in " +
			strings.TrimSuffix(text, "/") + "/shop"}
	}
	return e
}

// registry finds account and region: the file's, those of a URI, or the environment's. All
// images of a run go to one registry.
func (b *resolver) registry() error {
	b.plan.Region, b.plan.Account = b.config.region, b.config.account
	if e := b.fromURIs(); e != nil {
		return e
	}
	region, from := b.region()
	switch {
	case b.plan.Region == "":
		if b.plan.Region = region; region != "" {
			if e := checkRegion(region); e != nil {
				e.Place = from
				return e
			}
		}
	case b.uri != "" && region != "" && region != b.plan.Region && b.config.region == "":
		b.plan.CallerRegion = region
		b.note("the registry's region is %s, as in %s; parameters, secrets and services are looked for in %s, by %s", b.plan.Region, b.uri, region, from)
	}
	account := b.env["AWS_ACCOUNT_ID"]
	switch {
	case b.plan.Account == "":
		if b.plan.Account = account; account != "" {
			if e := checkAccount(account); e != nil {
				e.Place = "AWS_ACCOUNT_ID"
				return e
			}
		}
	case b.uri != "" && account != "" && account != b.plan.Account && b.config.account == "":
		b.note("the account is %s, as in %s; AWS_ACCOUNT_ID is %s", b.plan.Account, b.uri, account)
	}
	return nil
}

// region is the environment's. CodeBuild sets AWS_REGION by itself, to its own region: there
// AWS_DEFAULT_REGION is what somebody has chosen.
func (b *resolver) region() (region, from string) {
	both, chosen := b.env["AWS_REGION"], b.env["AWS_DEFAULT_REGION"]
	if both == "" || chosen == "" || both == chosen {
		return b.env.first("AWS_REGION", "AWS_DEFAULT_REGION")
	}
	if b.env["CODEBUILD_BUILD_ID"] != "" {
		b.noteRegion(chosen, "the region is %s, by AWS_DEFAULT_REGION; AWS_REGION, which CodeBuild sets by itself, is %s", chosen, both)
		return chosen, "AWS_DEFAULT_REGION"
	}
	b.noteRegion(both, "the region is %s, by AWS_REGION; AWS_DEFAULT_REGION is %s", both, chosen)
	return both, "AWS_REGION"
}

// noteRegion tells of a choice, where nothing else has decided it.
func (b *resolver) noteRegion(region, format string, args ...any) {
	if b.plan.Region == "" && checkRegion(region) == nil {
		b.note(format, args...)
	}
}

// fromURIs takes account and region from the images that are named by their URI.
func (b *resolver) fromURIs() error {
	var errs fault.Errors
	var first destination
	for _, at := range b.destinations() {
		d, e := parseDestination(at.text)
		switch {
		case e != nil || d.host == "": // what is wrong is said of the image
			continue
		case first.host == "":
			first, b.uri = d, cmp.Or(at.variable, at.text)
			for _, c := range []struct{ key, file, uri string }{{"account", b.plan.Account, d.account}, {"region", b.plan.Region, d.region}} {
				if c.file != "" && c.file != c.uri {
					errs = append(errs, &fault.Error{Place: at.place, What: fmt.Sprintf("%s is in another %s than %s", at.text, c.key, c.file),
						Fix: fmt.Sprintf("leave %s out of the file, or name the repository alone", c.key)})
				}
			}
			b.plan.Account, b.plan.Region = d.account, d.region
		case d.host != first.host:
			errs = append(errs, &fault.Error{Place: at.place, What: fmt.Sprintf("%s is in another registry than %s", at.text, first.host),
				Fix: "push to one registry in a run"})
		}
	}
	if first.host == plan.PublicRegistry {
		b.plan.Public = true
		errs = append(errs, b.checkPublic()...)
	}
	return errs.OrNil()
}

// checkPublic finds repositories that have no registry, where others are in ECR Public.
func (b *resolver) checkPublic() (errs fault.Errors) {
	for _, at := range b.destinations() {
		if d, e := parseDestination(at.text); e == nil && d.host == "" {
			errs = append(errs, &fault.Error{Place: at.place, What: fmt.Sprintf("%s has no registry, and %s is in ECR Public",
				at.text, b.uri),
				Fix: "write it as in " + plan.PublicRegistry + "/ALIAS/" + at.text})
		}
	}
	return errs
}

// checkPublicImage finds what ECR Public does not have, and what must not be public.
func checkPublicImage(img imageConfig) *fault.Error {
	fail := func(what, why, fix string) *fault.Error {
		return &fault.Error{Place: img.place, What: what + ", in ECR Public", Why: why, Fix: fix}
	}
	cache := img.Build.Cache
	switch c := img.Create; {
	case c != nil && (c.ScanOnPush || c.Immutable || c.LifecyclePolicy != ""):
		return fail("create_repository with keys",
			"its repositories have neither scans nor immutable tags nor lifecycle policies", "write create_repository: true")
	case img.OnImmutable == plan.FailTaken:
		return fail("on_immutable: fail", "its tags may always be moved", "leave on_immutable out")
	case cache == plan.CacheRegistry:
		return fail("cache: registry", "everybody could read all stages of the build", "use cache: local")
	case img.Build.CacheMounts && cache != plan.CacheLocal:
		return fail("cache_mounts", "everybody could read what the mounts hold", "use cache: local beside it")
	}
	return nil
}

// A placed is what names an image's destination, and where it stands.
type placed struct{ place, variable, text string }

// destinations are what the file, or else the environment, names repositories by.
func (b *resolver) destinations() (out []placed) {
	for _, img := range b.config.images {
		out = append(out, placed{place: img.place, text: img.Repository})
	}
	if len(out) > 0 {
		return out
	}
	for _, key := range sortedKeys(b.env) {
		if m := numbered.FindStringSubmatch(key); m != nil && m[1] != "CONTAINER_NAME" && b.env[key] != "" {
			out = append(out, placed{key, key, strings.TrimSuffix(strings.TrimSpace(b.env[key]), "/")})
		}
	}
	return out
}

// Region is the registry's region as the environment has it, "" for none.
func Region(environ []string) string {
	b := &resolver{plan: &plan.Plan{}, env: environment(environ)}
	region, _ := b.region()
	return region
}
