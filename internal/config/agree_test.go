package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	yamlv3 "go.yaml.in/yaml/v3"
)

// TestAgree compares reader and schema on generated variations. A
// YAML reader and a validator of other makes say what the schema takes.
func TestAgree(t *testing.T) {
	text, err := json.Marshal(Schema())
	if err != nil {
		t.Fatal(err)
	}
	schema := compileSchema(t, string(text))
	values := []string{"", "''", "x", "'x y'", "-x", ".x", "_x", "X", "true", "True", "'True'", "'TRUE'", "false", "'t'",
		"yes", "'0'", "0", "1", "2", "10", "23", "-1", "'6'", "'06'",
		"0x6", "'0x6'", "0xg", "1.5", "[]", "[x]", "[x, 'x y']", "[[x]]", "{}", "{a: x}", "{a: [x]}", "null", "~", "linux/amd64", "[linux/amd64, linux/arm64]", "Linux/amd64", "shop/web", "Shop", "a//b",
		"gzip", "zstd", "lz4", "registry", "inline", "host", "none", "7d", "90", "64m", "-5m", "'${V}'", "'a-${V}'", "ssm:/a", "'ssm:'", "env:V", "'secretsmanager:a#b'", "hunter2", "{n: ssm:/a}", "{n: hunter2}", "{n: 'env:V'}",
		"host=1.2.3.4", "[host=1.2.3.4]", "{host: 1.2.3.4}", "accept-same", "fail", "default", "ghcr.io", "'https://ghcr.io'", "us-east-1", "'123456789012'"}
	lookup := lookup(map[string]string{"V": "value"})
	documents := map[string]string{}
	// keys that read text of any kind, or check what a schema cannot, have no part here
	for _, key := range []string{"container", "containers", "repository", "tags", "platforms", "no_cache", "pull",
		"reproducible", "reuse", "network", "cache", "compression", "secrets", "on_immutable", "target", "labels"} {
		for _, v := range values {
			image := map[string]string{"container": "a", "repository": "bb"}
			if key == "containers" {
				delete(image, "container")
			}
			image[key] = v
			var keys []string
			for k, v := range image {
				keys = append(keys, k+": "+v)
			}
			documents[key+": "+v] = "images:\n  - {" + strings.Join(keys, ", ") + "}\n"
		}
	}
	for _, v := range values {
		documents["compression_level: "+v] = "images:\n  - {container: a, repository: bb, compression: zstd, compression_level: " + v + "}\n"
		documents["tag: "+v] = "tag: " + v + "\n"
		documents["password: "+v] = "docker_hub: {username: me, password: " + v + "}\n"
		documents["host: "+v] = "registries: [{username: me, password: 'env:V', host: " + v + "}]\n"
		documents["images: "+v] = "images: " + v + "\n"
	}
	for _, image := range []string{"{}", "{container: a}", "{repository: bb}", "{containers: [a], repository: bb}",
		"{container: a, containers: [b], repository: bb}"} {
		documents["an image "+image] = "images: [" + image + "]\n"
	}
	for name, doc := range documents {
		key, value, _ := strings.Cut(name, ": ")
		if _, err := strconv.ParseFloat(value, 64); (err == nil || value == "0x6") && key == "repository" {
			continue // its length is lost
		}
		if value == "True" && slices.Contains([]string{"repository", "host", "target"}, key) {
			continue // its spelling is lost
		}
		var v any
		if err := yamlv3.Unmarshal([]byte(doc), &v); err != nil {
			continue // what is not YAML is no matter of the schema
		}
		plain, err := json.Marshal(v)
		if err != nil {
			continue
		}
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(string(plain)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		serr := schema.Validate(instance)
		_, rerr := parse("ecsbuild.yml", []byte(doc), lookup, unsetRefused)
		// A variable may hold anything for the schema.
		if strings.Contains(name, "$") && serr == nil {
			continue
		}
		if (serr == nil) != (rerr == nil) {
			t.Errorf("%s:\n  schema %s\n  reader %v", name, strings.ReplaceAll(fmt.Sprint(serr), "\n", " "), rerr)
		}
	}
	if len(documents) < 1000 {
		t.Errorf("only %d documents", len(documents))
	}
}
