package config

import (
	"fmt"
	"regexp"
)

// A schema is what an editor needs to know of a value, as JSON Schema says it.
// It is written beside the code that reads the value, and comes out as
// ecsbuild.schema.json; checks that need a variable's value are not in it.
// https://json-schema.org/draft/2020-12/schema
type schema map[string]any

var (
	isText    = schema{"type": []string{"string", "number", "boolean"}} // 1.10 and true are texts as they stand
	isBoolean = schema{"anyOf": []schema{{"type": "boolean"}, {"enum": []any{0, 1}}, {"type": "string", "pattern": `^([tT]([rR][uU][eE])?|[fF]([aA][lL][sS][eE])?|[01])$`}, isVariable}}
	isLevel   = isEither(schema{"type": "integer", "minimum": 0, "maximum": 22}, isLike(numberPattern.String()))
	isTag     = isWord(tagPattern, 0)
	isName    = isEither(schema{"type": "integer"}, schema{"type": "boolean"}, isLike(containerPattern.String()))
	isNames   = isEither(isName, isSome(isName))
	// Of a number nobody sees here how many characters it has.
	isRepository = isEither(schema{"type": "number", "minimum": 0}, schema{"type": "boolean"},
		schema{"type": "string", "pattern": repositoryPattern.String(), "minLength": 2, "maxLength": 256}, isVariable)
	isSecret = isLike(`^(ssm|secretsmanager|env):.`)
	isNull   = schema{"type": "null"}

	isVariable = schema{"type": "string", "pattern": `\$`} // "${NO_CACHE:-false}"
)

// isLike is a text of a pattern, or a variable that holds one.
func isLike(pattern string) schema {
	return isEither(schema{"type": "string", "pattern": pattern}, isVariable)
}

// isWord is a text of a pattern, which a number or a boolean may be as well; numbers
// from least on are.
func isWord(pattern *regexp.Regexp, least int) schema {
	return isEither(schema{"type": "number", "minimum": least}, schema{"type": "boolean"}, isLike(pattern.String()))
}

// isOneOf lets a variable stand in a word's place.
func isOneOf(words []string) schema {
	return isEither(schema{"enum": words}, isVariable)
}

func isList(of schema) schema { return schema{"type": "array", "items": of} }

// isImage adds that an image names a container, under either key.
func isImage(s schema) schema {
	s["anyOf"] = []schema{{"required": []string{"container"}}, {"required": []string{"containers"}}}
	return s
}

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
		if text := descriptions[name]; text != "" {
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

// descriptions are what an editor shows of a key, in a line.
var descriptions = map[string]string{
	"region":     "region of the registry; default AWS_REGION",
	"account":    "account of the registry, twelve digits in quotes; default AWS_ACCOUNT_ID, then the caller's own",
	"tag":        "tag of images that name none; default IMAGE_TAG, then the commit",
	"docker_hub": "account for Docker Hub",
	"registries": "accounts for other registries that base images come from",
	"images":     "what is built",

	"definitions": "files for deploy actions; default one imagedefinitions.json with every container",

	"host":     "of the registry, as in ghcr.io",
	"username": "ssm:NAME, secretsmanager:ID[#KEY], env:NAME, or the value itself",
	"password": "ssm:NAME, secretsmanager:ID[#KEY] or env:NAME",

	"container":  "name in the task definition of the container that runs it",
	"containers": "names of containers",
	"repository": "name in ECR, without host and tag",
	"tags":       "the first one is deployed",
	"context":    "folder or URL that the build reads; default .",
	"dockerfile": "relative to the context; default Dockerfile",
	"target":     "stage to build; default the last",
	"args":       "build arguments",
	"labels":     "of the image",
	"platforms":  "as in linux/amd64; several make an index",
	"secrets":    "id to ssm:NAME, secretsmanager:ID[#KEY] or env:NAME, for RUN --mount=type=secret",
	"ssh":        "default, or id=socket-or-key, for RUN --mount=type=ssh",
	"cache":      "keep the build's cache in ECR: registry (a tag of its own) or inline (in the image)",
	"cache_from": "an image, or type=registry|local,…",
	"cache_to":   "type=inline|registry|local,…",
	"no_cache":   "build every step anew",
	"pull":       "ask for base images anew",
	"network":    "of RUN: default, none or host",
	"shm_size":   "of /dev/shm, as in 64m",

	"extra_hosts":         "HOST=IP, or HOST=host-gateway",
	"additional_contexts": "name to folder, image (docker-image://…) or URL",
	"compression":         "of the image's own layers: gzip or zstd",
	"compression_level":   "gzip 0 to 9, zstd 0 to 22",
	"reproducible":        "the same sources give the same layers on every host",
	"reuse":               "do not build what has not changed",
	"max_age":             "build what is reused anew when it is older, as in 7d",
	"create_repository":   "make a repository that is missing",
	"on_immutable":        "where a tag is taken: accept-same goes on when it is the same image, fail ends the run before the build",
	"scan_on_push":        "of the repository that is made",
	"immutable":           "tags of the repository that is made cannot move",
	"lifecycle_policy":    "file with a JSON policy for the repository that is made",

	"file":    "name of the definitions file; default imagedefinitions.json",
	"format":  "image-definitions for the ECS deploy action, image-detail for blue/green",
	"service": "live ECS service that must know the containers",
	"cluster": "of the service; default default",
	"name":    "of the service",
}
