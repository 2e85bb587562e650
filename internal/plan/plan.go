// Package plan is the data model of a run: what is built, where it goes, and
// which files are left. Package config makes a Plan; everything after it only
// reads the result.
package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// HostGateway stands for the address that the engine's host has in a build.
const HostGateway = "host-gateway"

// A Plan says what a run does: which images, to which registry, and which
// definitions files it leaves.
type Plan struct {
	File      string `json:"file,omitempty"` // the configuration file that was read, "" for the environment alone
	Directory string `json:"directory"`      // where relative paths start and outputs go, absolute
	Region    string `json:"region"`
	Account   string `json:"account,omitempty"` // "" for the caller's own
	Public    bool   `json:"public,omitempty"`  // the registry is ECR Public, whose repositories are ALIAS/NAME
	// Region of SSM, Secrets Manager and ECS, where that is another one; "" for Region.
	CallerRegion string        `json:"caller_region,omitempty"`
	Builder      Builder       `json:"builder"`
	Nodes        []Node        `json:"nodes,omitempty"` // of BuilderBuildKit
	Images       []Image       `json:"images"`
	Definitions  []Definitions `json:"definitions"`
	Gates        []Gate        `json:"gates,omitempty"`
	Logins       []Login       `json:"registries,omitempty"` // Docker Hub first, when there is one
	Notes        []string      `json:"notes,omitempty"`      // what was chosen where nobody has said it
	Warnings     []string      `json:"warnings,omitempty"`
}

// A Builder is what builds.
type Builder string

const (
	BuilderAuto     Builder = "auto"     // docker, or private where an image asks for what that one cannot do
	BuilderDocker   Builder = "docker"   // the engine that the environment names
	BuilderPrivate  Builder = "private"  // one that ecsbuild starts for the run
	BuilderBuildKit Builder = "buildkit" // the nodes of the plan
)

// BuilderWords are those that a configuration may have; anything else in it is a node.
var BuilderWords = []Builder{BuilderAuto, BuilderDocker, BuilderPrivate}

// A Node is a buildkitd that builds.
type Node struct {
	Address string `json:"address"`        // its URL, or buildx:NAME
	Jobs    int    `json:"jobs,omitempty"` // images whose steps it runs at once, 0 for any number
}

// MayBuildInParts says that several nodes build, among which an image may be split.
func (p *Plan) MayBuildInParts() bool {
	return len(p.Nodes) > 1 || len(p.Nodes) == 1 && strings.HasPrefix(p.Nodes[0].Address, BuildxPrefix)
}

// NodeSchemes are those that the address of a node may have. The last four run a program on the
// way, as buildctl does: ssh, docker, podman or kubectl.
var NodeSchemes = []string{"unix", "tcp", "ssh", "docker-container", "podman-container", "kube-pod"}

// BuildxPrefix begins the address of what `docker buildx create` has made: "buildx:NAME".
const BuildxPrefix = "buildx:"

// A Gate is a command that must succeed before any tag of a run moves.
type Gate struct {
	Command string `json:"command"` // for sh -c, in the plan's Directory
	Timeout int64  `json:"timeout"` // seconds
}

// Variable is a name as it stands in that of an environment variable: ECSBUILD_IMAGE_WEB.
func Variable(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
}

// An Image is one build and the repository it goes to.
type Image struct {
	ID         string   `json:"name"`                 // by which messages and --only call it: see Name
	Containers []string `json:"containers,omitempty"` // names in ECS task definitions; none for an image that is pushed alone
	Shared     []string `json:"-"`                    // those of Containers that another image of the plan has as well
	Repository string   `json:"repository"`           // name in the registry, without host
	Tags       []string `json:"tags"`                 // the first one is deployed
	Build      Build    `json:"build"`
	Part       []string `json:"part,omitempty"` // platforms, where this is a part of the image: see ForPlatforms

	Create      *Creation `json:"create_repository,omitempty"` // nil: a missing repository is an error
	OnImmutable TagPolicy `json:"on_immutable,omitempty"`

	Reuse  bool  `json:"reuse,omitempty"`   // an image made of the same inputs is not built again
	MaxAge int64 `json:"max_age,omitempty"` // of an image that is reused, in seconds; 0 for any
}

// PublicRegistry is ECR Public, which has one registry for everybody, and an alias for each
// account's part of it.
const PublicRegistry = "public.ecr.aws"

// BuildOrder are the indices of the images, those that others are built on before those.
func (p *Plan) BuildOrder() (order []int) {
	index, seen := map[string]int{}, map[int]bool{}
	for i, img := range p.Images {
		index[img.Name()] = i
	}
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		b := p.Images[i].Build
		for _, context := range slices.Sorted(maps.Keys(b.ImageContexts)) {
			visit(index[b.ImageContexts[context]])
		}
		order = append(order, i)
	}
	for i := range p.Images {
		visit(i)
	}
	return order
}

// Creation is how a missing repository is made.
type Creation struct {
	ScanOnPush      bool     `json:"scan_on_push"`
	Immutable       bool     `json:"immutable"`
	Except          []string `json:"immutable_except,omitempty"` // tags that may move all the same; * stands for any characters
	LifecyclePolicy string   `json:"lifecycle_policy,omitempty"` // its text, JSON
}

// IsImmutable says whether a tag of the repository may not move.
func (c *Creation) IsImmutable(tag string) bool {
	return c.Immutable && !slices.ContainsFunc(c.Except, func(pattern string) bool {
		ok, _ := path.Match(pattern, tag) // a tag has no slash, nor a pattern more than *
		return ok
	})
}

// TagPolicy is what to do where an immutable tag is taken.
type TagPolicy string

const (
	AcceptSame TagPolicy = "accept-same" // go on when the image is the same, as ECR itself does
	FailTaken  TagPolicy = "fail"        // end the run before anything is built
)

// Name is how messages call the image, which no other image of its plan is called: its
// first container that no other image has, or else its repository.
func (i Image) Name() string {
	if i.ID == "" && len(i.Containers) > 0 {
		return i.Containers[0]
	}
	return cmp.Or(i.ID, i.Repository)
}

// Names are how outputs and variables call the image, which they call no other: its
// containers that no other image has, or else its Name.
func (i Image) Names() []string {
	var names []string
	for _, c := range i.Containers {
		if !slices.Contains(i.Shared, c) {
			names = append(names, c)
		}
	}
	if len(names) == 0 {
		names = []string{i.Name()}
	}
	return names
}

// PartName is the Name of a whole image, and tells the parts of one apart: "web linux/arm64".
func (i Image) PartName() string {
	if i.Part == nil {
		return i.Name()
	}
	return i.Name() + " " + strings.Join(i.Part, ",")
}

// CacheName is PartName for a tag or a file: "web.linux-arm64".
func (i Image) CacheName() string {
	name := i.Name()
	for _, p := range i.Part {
		name += "." + p
	}
	return strings.ReplaceAll(name, "/", "-")
}

// ForPlatforms is the part of the image that is built for some of its platforms, where several
// machines build it.
func (i Image) ForPlatforms(platforms []string) Image {
	i.Build.Platforms, i.Part = platforms, platforms
	return i
}

// CacheTag is where in the image's repository its cache lies: cache: registry.
func (i Image) CacheTag() string {
	return tagOf("buildcache-" + i.CacheName())
}

// CacheMountsTag is where in the image's repository its cache mounts lie, unless its cache
// is a local one.
func (i Image) CacheMountsTag() string { return tagOf("cachemounts-" + i.CacheName()) }

// maxTag is what the distribution protocol allows, in bytes.
const maxTag = 128

// tagOf makes a tag of a text, also of one that is too long for it.
func tagOf(text string) string {
	if len(text) <= maxTag {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	end := "-" + hex.EncodeToString(sum[:4])
	return text[:maxTag-len(end)] + end
}

// Build holds the keys of Compose's build section, resolved: paths are
// absolute, sizes are bytes.
type Build struct {
	Context            string            `json:"context"`    // a folder, or a git or HTTP URL
	Dockerfile         string            `json:"dockerfile"` // a file; relative to the context where that is a URL
	Target             string            `json:"target,omitempty"`
	Args               map[string]string `json:"args,omitempty"`
	Labels             map[string]string `json:"labels,omitempty"`
	Platforms          []string          `json:"platforms,omitempty"`
	Secrets            map[string]Source `json:"secrets,omitempty"`
	SSH                []string          `json:"ssh,omitempty"` // "default" or "id=socket-or-key"
	CacheFrom          []string          `json:"cache_from,omitempty"`
	CacheTo            []string          `json:"cache_to,omitempty"`
	NoCache            bool              `json:"no_cache,omitempty"`
	Pull               bool              `json:"pull,omitempty"`
	Network            string            `json:"network,omitempty"`
	ExtraHosts         []string          `json:"extra_hosts,omitempty"` // "host=ip"
	ShmSize            int64             `json:"shm_size,omitempty"`    // bytes
	AdditionalContexts map[string]string `json:"additional_contexts,omitempty"`
	ImageContexts      map[string]string `json:"image_contexts,omitempty"` // context to an image's name
	Cache              Cache             `json:"cache,omitempty"`
	CacheMounts        bool              `json:"cache_mounts,omitempty"` // what RUN --mount=type=cache holds is kept where Cache is
	Compression        Compression       `json:"compression,omitempty"`
	CompressionLevel   *int              `json:"compression_level,omitempty"` // nil for the default
	Reproducible       bool              `json:"reproducible,omitempty"`      // no file time is later than Epoch
}

// Compression is how layers are compressed, "" for the engine's own way.
type Compression string

const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Cache is where the cache of a build lies, "" for none.
type Cache string

const (
	CacheRegistry Cache = "registry" // in a tag of the image's own repository
	CacheLocal    Cache = "local"    // in a folder that the CI keeps
	CacheInline   Cache = "inline"   // in the image itself
)

// Caches are all of them.
var Caches = []Cache{CacheRegistry, CacheLocal, CacheInline}

// SourceDateEpoch is the argument that reproducible builds go by, in seconds
// since 1970.
// https://reproducible-builds.org/specs/source-date-epoch/
const SourceDateEpoch = "SOURCE_DATE_EPOCH"

// Epoch is the time that no file and no entry of a reproducible image's
// history is later than: 1970, where the build has no SOURCE_DATE_EPOCH.
func (b Build) Epoch() time.Time {
	seconds, _ := strconv.ParseInt(b.Args[SourceDateEpoch], 10, 64) // checked by the builder
	return time.Unix(seconds, 0).UTC()
}

// Remote says whether a context is fetched by BuildKit and not sent by us.
func Remote(context string) bool {
	for _, p := range []string{"https://", "http://", "git@", "git://", "ssh://", "docker-image://"} {
		if strings.HasPrefix(context, p) {
			return true
		}
	}
	return false
}

// Format is the shape of a definitions file.
type Format string

const (
	ImageDefinitions Format = "image-definitions" // a list, for the ECS deploy action
	ImageDetail      Format = "image-detail"      // one image, for blue/green deployments
)

// Definitions is one file for a deploy action.
type Definitions struct {
	File    string   `json:"file"` // absolute
	Format  Format   `json:"format"`
	Entries []Entry  `json:"entries"`
	Service *Service `json:"service,omitempty"`
}

// An Entry is one container of a definitions file, and the image that it runs.
type Entry struct {
	Container string `json:"container"`
	Image     string `json:"image,omitempty"` // the Name of an image of the plan
	URI       string `json:"uri,omitempty"`   // of an image that no run builds
}

// Containers are the names of all entries.
func (d Definitions) Containers() (names []string) {
	for _, e := range d.Entries {
		names = append(names, e.Container)
	}
	return names
}

// Service is a live ECS service whose task definition must know the containers.
type Service struct {
	Cluster string `json:"cluster"`
	Name    string `json:"name"`
}
