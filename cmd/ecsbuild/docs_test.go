package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTroubleshooting: every message in a heading of docs/troubleshooting.md is one that
// the program has.
func TestTroubleshooting(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, root := range []string{".", "../../internal"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			source.Write(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// A format's verbs stand where the page has an ellipsis or an example.
	program := regexp.MustCompile(`%[a-z]|%\[[0-9]\][a-z]`).ReplaceAllString(source.String(), "…")
	heading := regexp.MustCompile("(?m)^### (.*)$")
	message := regexp.MustCompile("`([^`]+)`")
	example := regexp.MustCompile(`"[^"]*"|SSM |ecsbuild.yml:[0-9]+:[0-9]+: |unix://\S+|CONTAINER_NAME_2|[a-z]+:[A-Z][A-Za-z]+|terminated|imagedefinitions.json`)
	n := 0
	for _, h := range heading.FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(h[1], "CodePipeline:") || strings.HasPrefix(h[1], "GitHub:") {
			continue // their words
		}
		for _, m := range message.FindAllStringSubmatch(h[1], -1) {
			for _, part := range strings.Split(example.ReplaceAllString(m[1], "…"), "…") {
				if part = strings.TrimSpace(part); len(part) < 8 {
					continue
				}
				n++
				if !strings.Contains(program, part) {
					t.Errorf("%q (of %q) is no message of the program", part, h[1])
				}
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d messages were looked at", n)
	}
}

// TestLinks: what the pages link to in this repository is there.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md", "../../bench/README.md") {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`).FindAllStringSubmatch(string(data), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}
