package buildspec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ecsbuild/ecsbuild/internal/config"
)

// TestConvert reads each buildspec of testdata; the other files beside it are what becomes of
// it. UPDATE=1 writes them.
func TestConvert(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	if len(files) < 9 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			given := map[string][]byte{}
			kept := &txtar.Archive{Comment: archive.Comment}
			for _, f := range archive.Files {
				if !strings.HasPrefix(f.Name, "want/") {
					given[f.Name] = f.Data
					kept.Files = append(kept.Files, f)
				}
			}
			read := func(path string) ([]byte, error) {
				if data, ok := given[path]; ok {
					return data, nil
				}
				return nil, fs.ErrNotExist
			}
			add := func(name, text string) {
				if text != "" {
					kept.Files = append(kept.Files, txtar.File{Name: "want/" + name, Data: []byte(text)})
				}
			}
			name, convert := "buildspec.yml", Convert
			if given["workflow.yml"] != nil {
				name, convert = "workflow.yml", ConvertWorkflow
			}
			c, err := convert(given[name], read)
			var nothing *NothingError
			switch {
			case errors.As(err, &nothing):
				add("error", nothing.Why+"\n")
			case err != nil:
				t.Fatal(err)
			default:
				checkConfig(t, c.Config)
				if _, err := parse([]byte(c.Buildspec)); err != nil && c.Config != "" && name == "buildspec.yml" {
					t.Errorf("the new buildspec: %v", err)
				}
				if name == "workflow.yml" && c.Config != "" && !IsWorkflow([]byte(c.Buildspec)) {
					t.Errorf("the new workflow is none:\n%s", c.Buildspec)
				}
				add("ecsbuild.yml", c.Config)
				add(name, c.Buildspec)
				var said strings.Builder
				for _, p := range c.Problems {
					fmt.Fprintf(&said, "%d: %s: %s\n", p.Line, p.Command, p.Why)
				}
				add("problems", said.String())
				add("notes", strings.Join(append(c.Notes, ""), "\n"))
			}
			got := string(txtar.Format(kept))
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(archive)), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// checkConfig sees that ecsbuild takes what init has written, in an environment with every
// variable of it.
func checkConfig(t *testing.T, text string) {
	t.Helper()
	if text == "" {
		return
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ecsbuild.yml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var environ []string
	for _, m := range regexp.MustCompile(`(?:\$\{|env:)([A-Z_]+)`).FindAllStringSubmatch(text, -1) {
		value := "shop"
		switch name := m[1]; {
		case name == "COMMIT":
			value = strings.Repeat("0123456789abcdef", 3)[:40]
		case name == "REGISTRY":
			value = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"
		case strings.Contains(name, "REGION"):
			value = "eu-west-1"
		case name == "ID" || name == "AWS_ACCOUNT_ID":
			value = "111122223333"
		}
		environ = append(environ, m[1]+"="+value)
	}
	_, err := config.Load(config.Options{Directory: dir, Environ: environ})
	if err != nil && !strings.Contains(err.Error(), "is not a folder") && !strings.Contains(err.Error(), "there is no Dockerfile") {
		t.Errorf("%v", err)
	}
}

// FuzzConvert: whatever a file holds, it is read or refused, and what is written of it can be
// read again.
func FuzzConvert(f *testing.F) {
	seed(f, "buildspec.yml")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Convert(data, dockerfile)
		if err != nil || c.Config == "" {
			return
		}
		if _, err := parse([]byte(c.Buildspec)); err != nil && !strings.Contains(err.Error(), "no commands") {
			t.Errorf("%v\n%s", err, c.Buildspec)
		}
	})
}

func FuzzWorkflow(f *testing.F) {
	seed(f, "workflow.yml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if !IsWorkflow(data) {
			return
		}
		c, err := ConvertWorkflow(data, dockerfile)
		if err == nil && c.Config != "" && !IsWorkflow([]byte(c.Buildspec)) {
			t.Errorf("the new workflow is none:\n%s", c.Buildspec)
		}
	})
}

// dockerfile is every file of the sources.
func dockerfile(string) ([]byte, error) { return []byte("FROM base\nCOPY --from=shop /x /x\n"), nil }

func seed(f *testing.F, name string) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, one := range archive.Files {
			if one.Name == name {
				f.Add(one.Data)
			}
		}
	}
}
