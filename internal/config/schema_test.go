package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compileSchema(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(schemaURL, parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(schemaURL)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestSchema writes the schema that editors use, and checks it against every
// configuration that is to be found here, right and wrong.
func TestSchema(t *testing.T) {
	text, err := json.MarshalIndent(Schema(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "../../ecsbuild.schema.json", string(text)+"\n")

	schema := compileSchema(t, string(text))
	check := func(name string, data []byte) error {
		t.Helper()
		plain, err := yaml.YAMLToJSON(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(plain)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return schema.Validate(v)
	}

	var files []string
	for _, pattern := range []string{"testdata/good/*.yml", "../../examples/*/ecsbuild.yml"} {
		found, _ := filepath.Glob(pattern)
		files = append(files, found...)
	}
	if len(files) < 4 {
		t.Errorf("only %d files", len(files))
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(f, data); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	var blocks [][][]byte
	for _, page := range []string{"../../README.md", "../../docs/configuration.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile("(?s)```yaml\n(region:.*?)```").FindAllSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s shows no configuration", page)
		}
		blocks = append(blocks, found...)
	}
	for _, b := range blocks {
		if err := check("README.md", b[1]); err != nil {
			t.Error(err)
		}
	}
	for text, right := range map[string]bool{
		"no_cache: 1": true, `no_cache: "${N:-false}"`: true, "no_cache: perhaps": false, "no_cache: 2": false, "compression_level: 3": true, "compression_level: -1": false, "compression_level: high": false,
		"network: none": true, "network: x": false, "max_age: 7d": true, `max_age: "${A:-7d}"`: true, "max_age: 90": false, "shm_size: 64m": true, "shm_size: 1048576": true,
	} {
		if err := check(text, []byte("images: [{container: a, repository: bb, "+text+"}]")); (err == nil) != right {
			t.Errorf("%s: %v", text, err)
		}
	}
	// What the program refuses for its shape, an editor marks as well.
	for _, name := range []string{"unknown_key", "unknown_nested", "far_key", "wrong_type_list", "wrong_type_text",
		"cache_where", "compression", "format", "not_a_mapping"} {
		data, err := os.ReadFile("testdata/errors/" + name + ".yml")
		if err != nil {
			t.Fatal(err)
		}
		if check(name, data) == nil {
			t.Errorf("%s: the schema lets it pass", name)
		}
	}
}
