package config

import (
	"fmt"
	"regexp"
	"strings"
)

// A schema is what an editor needs to know of a value, as JSON Schema says it.
// It is written beside the code that reads the value, and comes out as
// ecsbuild.schema.json; checks that need a variable's value are not in it.
// https://json-schema.org/draft/2020-12/schema
type schema map[string]any

var (
	isText    = schema{"type": []string{"string", "number", "boolean"}} // 1.10 and true are texts as they stand
	isBoolean = schema{"anyOf": []schema{{"type": "boolean"}, {"enum": []any{0, 1}},
		{"type": "string", "pattern": `^([tT]([rR][uU][eE])?|[fF]([aA][lL][sS][eE])?|[01])$`}, isVariable}}
	isLevel = isEither(schema{"type": "integer", "minimum": 0, "maximum": 22}, isLike(numberPattern.String()))
	isTag   = isWord(tagPattern)
	isName  = isEither(schema{"type": "integer"}, schema{"type": "boolean"}, isLike(containerPattern.String()))
	isNames = isEither(isName, isList(isName))
	isEntry = isEither(isName, isLike(`^[A-Za-z0-9_-]{1,255}=.`))
	// Of a number nobody sees here how many characters it has.
	isRepository = isEither(schema{"type": "number", "minimum": 0}, schema{"type": "boolean"},
		schema{"type": "string", "pattern": repositoryPattern.String(), "minLength": 2, "maxLength": 256},
		schema{"type": "string", "pattern": strings.TrimSuffix(ecrURI.String(), "$") + "/."}, isVariable)
	isSecret = isLike(`^(ssm|secretsmanager|env):.`)
	isNull   = schema{"type": "null"}

	isVariable = schema{"type": "string", "pattern": `\$`} // "${NO_CACHE:-false}"
)

// isLike is a text of a pattern, or a variable that holds one.
func isLike(pattern string) schema {
	return isEither(schema{"type": "string", "pattern": pattern}, isVariable)
}

// isWord is a text of a pattern, which a number that is not negative or a boolean may be
// as well.
func isWord(pattern *regexp.Regexp) schema {
	return isEither(schema{"type": "number", "minimum": 0}, schema{"type": "boolean"}, isLike(pattern.String()))
}

// isOneOf lets a variable stand in a word's place.
func isOneOf(words []string) schema {
	return isEither(schema{"enum": words}, isVariable)
}

func isList(of schema) schema { return schema{"type": "array", "items": of} }

// isSome is a list that is not empty.
func isSome(of schema) schema { return schema{"type": "array", "items": of, "minItems": 1} }

func isMap(of schema) schema { return schema{"type": "object", "additionalProperties": of} }

func isEither(some ...schema) schema { return schema{"anyOf": some} }

// isObject is a mapping of known keys. Keys that begin with x- are not allowed
// either, as the program has it; << is YAML's own.
func isObject(keys map[string]field, required ...string) schema {
	properties := map[string]schema{}
	for name, f := range keys {
		s := schema{}
		for k, v := range f.is {
			s[k] = v
		}
		if text := describe(name); text != "" {
			s["description"] = text
		}
		properties[name] = s
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// Schema is that of ecsbuild.yml.
func Schema() map[string]any {
	d := &document{}
	s := isObject(d.configKeys(&fileConfig{}))
	s["$schema"], s["$id"] = "https://json-schema.org/draft/2020-12/schema", schemaURL
	s["title"] = "ecsbuild.yml"
	s["description"] = fmt.Sprintf("What ecsbuild builds and where it goes. In the file: # yaml-language-server: $schema=%s", schemaURL)
	return s
}

const schemaURL = "https://raw.githubusercontent.com/ecsbuild/ecsbuild/main/ecsbuild.schema.json"

// descriptions are what an editor shows of a key, and what docs/configuration.md says
// of it, in this order.
var descriptions = []struct{ key, text string }{
	{"region", "Region of the registry. Default: AWS_REGION or AWS_DEFAULT_REGION; where they differ, the second inside CodeBuild and the first elsewhere."},
	{"account", "AWS account of the registry, twelve digits in quotes. Default: AWS_ACCOUNT_ID, then the caller's own account."},
	{"tag", "Tag of images that name none, or a list of tags. Default: IMAGE_TAG (one tag or several), then the first 12 characters of the commit."},
	{"builder", "Engine that builds: auto, docker (the one that the environment names), private (one that ecsbuild starts for the run, with the containerd image store; needs root and dockerd 24 or later on PATH), or the address of a buildkitd: unix://, tcp:// (with the certificates of BUILDKIT_CERT_PATH), ssh://, docker-container://, podman-container:// or kube-pod://; or buildx:NAME, one that docker buildx create has made. A list of addresses spreads the images over several. auto is docker, and private where an image asks for what that engine cannot do. Default: ECSBUILD_BUILDER, then auto."},
	{"address", "Address of a buildkitd, or buildx:NAME."},
	{"jobs", "How many images the builder runs the steps of at once, while those of others are exported; with a number for each builder, it also gets more or fewer of them. Default: any number."},
	{"docker_hub", "Account for Docker Hub. Default: DOCKER_USER and DOCKER_PASSWORD (or another of their usual names), then the SSM parameters DOCKER_HUB_ID and DOCKER_HUB_PASSWORD, then docker login."},
	{"registries", "Accounts for other registries that base images come from."},
	{"images", "The images to build."},
	{"gates", "Commands that must succeed before any tag moves, one after the other; each has ECSBUILD_IMAGE_NAME, which docker run takes, for every image."},
	{"definitions", "The files for deploy actions. Default: one imagedefinitions.json with every container, if an image has one. [] for none."},

	{"run", "The command, for sh -c, in the folder of the sources."},
	{"timeout", "What the gate may take, as in 90s or 20m. Default: 15m."},

	{"host", "Host of the registry, as in ghcr.io."},
	{"username", "User name: ssm:NAME, secretsmanager:ID[#KEY], env:NAME, or the value itself."},
	{"password", "Password or access token: ssm:NAME, secretsmanager:ID[#KEY] or env:NAME."},

	{"container", "Name of the container in the ECS task definition that runs the image. Without one the image is pushed, and stands in no definitions file."},
	{"containers", "Names of containers, where several run the image; in a definitions file, the containers that it names, in this order, as in app, or as in app=shop-web where two images have the container or the image of the repository shop-web names none. Default there: all."},
	{"repository", "Name of the ECR repository, or its URI, without tag. All images go to one registry."},
	{"tags", "Tags of the image; the first one is deployed."},
	{"context", "Folder or URL of the build context. Default: the folder of the sources."},
	{"dockerfile", "Path of the Dockerfile, relative to the context. Default: Dockerfile."},
	{"target", "Stage to build. Default: the last one."},
	{"args", "Build arguments: a mapping, or a list of KEY=value. An argument without a value takes the environment's."},
	{"labels", "Labels of the image: a mapping, or a list of KEY=value."},
	{"platforms", "Platforms, as in linux/amd64. Several make an index, which needs the containerd image store or a buildkitd."},
	{"secrets", "Build secrets for RUN --mount=type=secret: id to ssm:NAME, secretsmanager:ID[#KEY] or env:NAME."},
	{"ssh", "SSH agents or keys for RUN --mount=type=ssh: default, or id=socket-or-key."},
	{"cache", "Keep the build cache for the next host: registry (all stages, in the tag buildcache-CONTAINER of the same repository), local (all stages, in a folder below ECSBUILD_CACHE that the CI keeps) or inline (the last stage, in the image itself). On a classic image store, registry and local take a private engine. Default: BUILD_CACHE."},
	{"cache_mounts", "Keep what RUN --mount=type=cache holds for the next host: in the tag cachemounts-CONTAINER of the same repository, or, with cache: local, below ECSBUILD_CACHE."},
	{"cache_from", "Caches to read: an image, or type=registry|local,… as docker buildx takes it."},
	{"cache_to", "Caches to write: type=inline|registry|local,… as docker buildx takes it. The classic image store can only write type=inline."},
	{"compression", "Compression of the image's own layers: gzip or zstd."},
	{"compression_level", "Compression level: 0 to 9 for gzip, 0 to 22 for zstd."},
	{"reproducible", "Make the same layers from the same sources on every host: no file of the image's own layers is later than SOURCE_DATE_EPOCH (from args; default 1970)."},
	{"reuse", "Do not build an image whose inputs have not changed: put its tags on the image that is there."},
	{"max_age", "With reuse: build again, without the cache, when the image is older than this, as in 7d (m, h, d, w)."},
	{"no_cache", "Build every step again."},
	{"pull", "Ask the registry for newer base images."},
	{"network", "Network of RUN: default, none or host."},
	{"extra_hosts", "Entries for /etc/hosts during the build: HOST=IP, or HOST=host-gateway."},
	{"shm_size", "Size of /dev/shm during the build, as in 64m."},
	{"additional_contexts", "Named contexts: name to folder, image (docker-image://…), URL, or another image of this file (service:NAME)."},
	{"create_repository", "Create the repository where it is missing: true, or a mapping of the keys below. Needs ecr:CreateRepository."},
	{"on_immutable", "Where a tag exists already: accept-same goes on if it is the same image, as ECR does; fail ends the run before the build, which needs ecr:DescribeImages."},

	{"scan_on_push", "Scan images on push in the repository that is created."},
	{"immutable", "Make the tags of the repository that is created immutable: true, or a mapping of except."},
	{"except", "Tags that may move all the same, one to five, in which * stands for any characters: latest, buildcache-*."},
	{"lifecycle_policy", "File with a JSON lifecycle policy for the repository that is created. Needs ecr:PutLifecyclePolicy."},

	{"file", "Name of the definitions file. Default: imagedefinitions.json, or imageDetail.json."},
	{"format", "image-definitions for the ECS deploy action, or image-detail for blue/green deployments by CodeDeploy (one container, by digest)."},
	{"also", "Entries of a definitions file for images that are not built here: container to image."},
	{"service", "Live ECS service whose task definition must have the containers, checked before the build. Needs ecs:DescribeServices and ecs:DescribeTaskDefinition."},
	{"cluster", "Cluster of the service. Default: default."},
	{"name", "Name of the service."},
}

// describe returns the description of a key.
func describe(key string) string {
	for _, d := range descriptions {
		if d.key == key {
			return d.text
		}
	}
	return ""
}
