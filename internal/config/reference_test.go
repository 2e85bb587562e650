package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReference holds the tables of docs/configuration.md to the schema: each key of each
// mapping, with what it says there. UPDATE=1 writes them.
func TestReference(t *testing.T) {
	const file = "../../docs/configuration.md"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root := schema(Schema())
	tables := map[string]schema{
		"file": root, "image": items(root, "images"), "definitions": items(root, "definitions"), "registry": items(root,
			"registries"),
		"gate":       gateItem(root),
		"docker_hub": property(root, "docker_hub"), "service": property(items(root, "definitions"),
			"service"), "create_repository": property(items(root, "images"), "create_repository"),
	}
	section := regexp.MustCompile(`(?s)(<!-- keys of ([a-z_]+) -->\n).*?(<!-- end -->)`)
	written := map[string]bool{}
	got := section.ReplaceAllStringFunc(string(data), func(s string) string {
		m := section.FindStringSubmatch(s)
		written[m[2]] = true
		return m[1] + table(t, m[2], tables[m[2]]) + m[3]
	})
	for name := range tables {
		if !written[name] {
			t.Errorf("%s has no table for %s", file, name)
		}
	}
	golden(t, file, got)
}

// gateItem is the mapping that a gate may be.
func gateItem(root schema) schema {
	list := root["properties"].(map[string]schema)["gates"]["anyOf"].([]schema)[0]
	return property(schema{"properties": map[string]schema{"gate": list["items"].(schema)}}, "gate")
}

// property returns the mapping that a key holds, as it is or among others that it may hold.
func property(s schema, key string) schema {
	p := s["properties"].(map[string]schema)[key]
	if some, ok := p["anyOf"].([]schema); ok {
		for _, one := range some {
			if one["properties"] != nil {
				return one
			}
		}
	}
	return p
}

func items(s schema, key string) schema {
	list := s["properties"].(map[string]schema)[key]["items"].(schema)
	return list
}

// table is a Markdown table of the keys of a mapping, in the order of descriptions.
func table(t *testing.T, name string, s schema) string {
	t.Helper()
	properties, ok := s["properties"].(map[string]schema)
	if !ok {
		t.Fatalf("%s is no mapping", name)
	}
	required, _ := s["required"].([]string)
	out := "| key | meaning |\n|---|---|\n"
	n := 0
	for _, d := range descriptions {
		if _, ok := properties[d.key]; !ok {
			continue
		}
		n++
		text := strings.ReplaceAll(d.text, "|", `\|`)
		if slices.Contains(required, d.key) {
			text += " Required."
		}
		out += fmt.Sprintf("| `%s` | %s |\n", d.key, text)
	}
	if n != len(properties) {
		t.Errorf("%d of the %d keys of %s are described", n, len(properties), name)
	}
	return out
}
