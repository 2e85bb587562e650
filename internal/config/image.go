package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/goccy/go-yaml/ast"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

func (d *document) image(n ast.Node) (imageConfig, error) {
	img := imageConfig{place: d.fail(n, "", "").Place}
	err := d.mapping("an image", d.imageKeys(&img))(n)
	switch {
	case err != nil:
	case img.Repository == "":
		err = d.fail(n, "an image without repository", "add repository, its name in ECR")
	default:
		err = d.at(n, img.contradiction())
	}
	return img, err
}

// imageKeys are those of an image.
func (d *document) imageKeys(img *imageConfig) map[string]field {
	b := &img.Build
	return map[string]field{
		"container":           d.texts("container", &img.Containers, checkContainer).as(isNames),
		"containers":          d.texts("containers", &img.Containers, checkContainer).as(isNames),
		"repository":          d.checked("repository", &img.Repository, checkDestination).as(isRepository),
		"tags":                d.tags("tags", &img.Tags).each(isTag),
		"context":             d.text("context", &b.Context),
		"dockerfile":          d.text("dockerfile", &img.dockerfile),
		"target":              d.text("target", &b.Target),
		"args":                d.pairs("args", &b.Args, true),
		"labels":              d.pairs("labels", &b.Labels, false),
		"platforms":           d.platforms(&b.Platforms),
		"secrets":             d.secrets(img),
		"cache_from":          d.texts("cache_from", &b.CacheFrom, checkCache),
		"cache_to":            d.texts("cache_to", &b.CacheTo, checkCache),
		"no_cache":            d.boolean("no_cache", &b.NoCache),
		"pull":                d.boolean("pull", &b.Pull),
		"network":             {d.checked("network", &b.Network, checkNetwork).read, isOneOf(networks)},
		"extra_hosts":         d.extraHosts(&b.ExtraHosts),
		"shm_size":            d.bytes("shm_size", &b.ShmSize),
		"additional_contexts": d.pairs("additional_contexts", &b.AdditionalContexts, false),
		"ssh":                 d.texts("ssh", &b.SSH, nil),
		"cache":               oneOf(d, "cache", &b.Cache, plan.Caches...),
		"cache_mounts":        d.boolean("cache_mounts", &b.CacheMounts),
		"compression":         oneOf(d, "compression", &b.Compression, plan.Gzip, plan.Zstd),
		"compression_level":   d.level(&b.CompressionLevel),
		"reproducible":        d.boolean("reproducible", &b.Reproducible),
		"reuse":               d.boolean("reuse", &img.Reuse),
		"max_age":             d.age("max_age", &img.MaxAge),
		"create_repository":   d.creation(&img.Create),
		"on_immutable":        oneOf(d, "on_immutable", &img.OnImmutable, plan.AcceptSame, plan.FailTaken),
	}
}

// contradiction finds keys that cannot go together.
func (img *imageConfig) contradiction() *fault.Error {
	b := img.Build
	name := "the image of " + img.Repository
	if len(img.Containers) > 0 {
		name = "the image of container " + img.Containers[0]
	}
	highest := map[plan.Compression]int{"": 9, plan.Gzip: 9, plan.Zstd: 22}[b.Compression]
	switch {
	case b.CompressionLevel != nil && *b.CompressionLevel > highest:
		return &fault.Error{What: fmt.Sprintf("%s: compression_level %d is above %d", name, *b.CompressionLevel, highest),
			Fix: "gzip has the levels 0 to 9, zstd 0 to 22 (with compression: zstd)"}
	case b.Reproducible && b.Args[plan.SourceDateEpoch] != "" && !wholeNumber.MatchString(b.Args[plan.SourceDateEpoch]):
		return &fault.Error{What: fmt.Sprintf("%s: SOURCE_DATE_EPOCH is %q", name, b.Args[plan.SourceDateEpoch]),
			Fix: "it is a number of seconds since 1970"}
	case img.MaxAge > 0 && !img.Reuse:
		return &fault.Error{What: name + " has max_age, and does not reuse anything", Fix: "add reuse: true"}
	case img.Reuse && b.NoCache:
		return &fault.Error{What: name + " has both reuse and no_cache",
			Why: "the one does not build what has not changed, the other always does", Fix: "keep one of them"}
	case img.Reuse && plan.Remote(b.Context):
		return &fault.Error{What: name + " has reuse, and a context that is fetched",
			Why: "whether that has changed cannot be seen from here", Fix: "leave reuse out"}
	}
	return nil
}

var wholeNumber = regexp.MustCompile(`^[0-9]{1,11}$`)

// level reads how hard a compressor tries.
func (d *document) level(into **int) field {
	return field{func(n ast.Node) error {
		var s string
		if err := d.text("compression_level", &s).read(n); err != nil {
			return err
		}
		base := 10
		if strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0o") {
			base = 0 // as the prefix says
		}
		v, err := strconv.ParseInt(s, base, 32)
		if err != nil || !numberPattern.MatchString(s) {
			return d.fail(n, fmt.Sprintf("compression_level must be a number, not %q", s),
				"gzip has the levels 0 to 9, zstd 0 to 22")
		}
		level := int(v)
		*into = &level
		return nil
	}, isLevel}
}

// numberPattern is a whole number as YAML has it.
// https://yaml.org/spec/1.2.2/#1032-tag-resolution
var numberPattern = regexp.MustCompile(`^([0-9]{1,3}|0x[0-9a-fA-F]{1,2}|0o[0-7]{1,2})$`)

// age reads 90m, 12h, 7d or 2w, into seconds.
func (d *document) age(what string, into *int64) field {
	return field{func(n ast.Node) error {
		var s string
		if err := d.text(what, &s).read(n); err != nil {
			return err
		}
		units := map[string]int64{"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
		m := agePattern.FindStringSubmatch(s)
		if m == nil {
			return d.fail(n, fmt.Sprintf("%s must be a time, not %q", what, s), "write it as in 90m, 12h, 7d or 2w")
		}
		v, _ := strconv.ParseInt(m[1], 10, 64)
		*into = v * units[m[2]]
		return nil
	}, isLike(agePattern.String())}
}

var agePattern = regexp.MustCompile(`^([1-9][0-9]{0,5})([mhdw])$`)

// creation reads true, false, or how the repository is to be.
func (d *document) creation(into **plan.Creation) field {
	return field{func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		c := &plan.Creation{}
		if k := kind(r); k != "a mapping" {
			on := false
			if err := d.boolean("create_repository", &on).read(n); err != nil {
				return err
			}
			if on {
				*into = c
			}
			return nil
		}
		var file string
		var place ast.Node
		*into = c
		err = d.mapping("create_repository", d.creationKeys(c, &file, &place))(n)
		if err != nil || file == "" {
			return err
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(d.path), file)
		}
		data, err := os.ReadFile(file)
		if err != nil || !json.Valid(data) {
			return d.fail(place, "lifecycle_policy: "+file+" is not a file with a JSON policy",
				"write the policy text of aws ecr put-lifecycle-policy into it")
		}
		c.LifecyclePolicy = string(data)
		return nil
	}, isEither(isBoolean, isObject(d.creationKeys(&plan.Creation{}, new(string), new(ast.Node))))}
}

// creationKeys reads the name of the policy's file, and where it stands.
func (d *document) creationKeys(c *plan.Creation, file *string, place *ast.Node) map[string]field {
	policy := d.text("lifecycle_policy", file)
	return map[string]field{
		"scan_on_push": d.boolean("scan_on_push", &c.ScanOnPush),
		"immutable":    d.immutable(c),
		"lifecycle_policy": {func(n ast.Node) error {
			*place = n
			return policy.read(n)
		}, policy.is},
	}
}

// immutable reads true, false, or the tags that may move all the same.
func (d *document) immutable(c *plan.Creation) field {
	keys := map[string]field{"except": d.texts("except", &c.Except, checkTagPattern).each(isLike(exceptPattern.String()))}
	on := d.boolean("immutable", &c.Immutable)
	return field{func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil || kind(r) != "a mapping" {
			return errors.Join(err, on.read(n))
		}
		c.Immutable = true
		err = d.mapping("immutable", keys)(n)
		if err == nil && len(c.Except) == 0 || len(c.Except) > maxExcept {
			return d.fail(n, fmt.Sprintf("immutable: except names %d tags", len(c.Except)), "name one to five, as in except: [latest, buildcache-*]")
		}
		return err
	}, isEither(isBoolean, isObject(keys, "except"))}
}

// Patterns of tags that an immutable repository lets move, and how many it takes.
// https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageTagMutabilityExclusionFilter.html
var exceptPattern = regexp.MustCompile(`^[0-9A-Za-z._*-]{1,128}$`)

const maxExcept = 5

func checkTagPattern(p string) *fault.Error {
	if exceptPattern.MatchString(p) && strings.Count(p, "*") <= 2 {
		return nil
	}
	return &fault.Error{What: fmt.Sprintf("%q is not a tag that could be excluded", p),
		Fix: "write a tag, in which * stands for any characters, twice at most, as in latest or buildcache-*"}
}

// extraHosts reads "host=ip" or "host:ip", in a list, or a mapping; a host may
// have several addresses.
func (d *document) extraHosts(into *[]string) field {
	add := func(n ast.Node, host, ip string) error {
		ip = strings.Trim(ip, "[]")
		if _, err := netip.ParseAddr(ip); err != nil && ip != plan.HostGateway || host == "" {
			return d.fail(n, fmt.Sprintf("extra_hosts: %q is not an address", ip), "write HOST=IP, or HOST="+plan.HostGateway)
		}
		*into = append(*into, host+"="+ip)
		return nil
	}
	return field{func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		if _, ok := r.(*ast.SequenceNode); ok {
			return d.list("extra_hosts", func(n ast.Node) error {
				s, err := d.scalar("extra_hosts", n)
				if err != nil {
					return err
				}
				i := strings.IndexAny(s, "=:")
				if i < 0 {
					return d.fail(n, fmt.Sprintf("extra_hosts: %q is not of the form host=ip", s), "")
				}
				return add(n, s[:i], s[i+1:])
			})(n)
		}
		return d.each("extra_hosts", n, func(host string, _, v ast.Node) error {
			s, err := d.scalar("extra_hosts."+host, v)
			if err != nil {
				return err
			}
			return add(v, host, s)
		})
	}, isEither(isList(isText), isMap(isText))}
}

func (d *document) bytes(what string, into *int64) field {
	return field{func(n ast.Node) error {
		s, err := d.scalar(what, n)
		if err != nil {
			return err
		}
		v, err := units.RAMInBytes(s)
		if err != nil || v < 0 {
			return d.fail(n, fmt.Sprintf("%s must be a size, not %q", what, s), "write it as in 64m, 1gb, or in bytes")
		}
		*into = v
		return nil
	}, isText}
}

// secretKey finds attributes of a cache that hold a credential.
var secretKey = regexp.MustCompile(`(?i)(secret|password|token|access_key)`)

// IsSecretKey says whether an attribute's name, or a text of them, is about a secret.
func IsSecretKey(key string) bool { return secretKey.MatchString(key) }

// checkCache takes an image's name, or what docker buildx takes.
func checkCache(c string) *fault.Error {
	if !strings.Contains(c, "=") && c != "" {
		return nil
	}
	types := []string{"registry", "inline", "local"}
	for _, kv := range strings.Split(c, ",") {
		if t, ok := strings.CutPrefix(kv, "type="); ok && slices.Contains(types, t) {
			return nil
		}
	}
	if IsSecretKey(c) {
		c, _, _ = strings.Cut(c, ",") // the rest is not repeated
		c += ",…"
	}
	return &fault.Error{What: fmt.Sprintf("%q is not a cache", c),
		Fix: "write an image name, or type=T,… as docker buildx does, T being one of " + strings.Join(types, ", ")}
}

var platformPattern = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?$`)

func checkPlatform(p string) *fault.Error {
	if platformPattern.MatchString(p) {
		return nil
	}
	return &fault.Error{What: fmt.Sprintf("%q is not a platform", p), Fix: "write it as in linux/amd64 or linux/arm64"}
}

// networks are those that BuildKit knows.
var networks = []string{"default", "none", "host"}

func checkNetwork(n string) *fault.Error {
	if slices.Contains(networks, n) {
		return nil
	}
	return &fault.Error{What: fmt.Sprintf("%q is not a network that a build can have", n),
		Fix: "BuildKit knows default, none and host"}
}
