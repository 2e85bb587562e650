package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/diff"

	"github.com/ecsbuild/ecsbuild/internal/atomicfile"
	"github.com/ecsbuild/ecsbuild/internal/buildspec"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

type initCmd struct {
	Directory string `short:"C" placeholder:"DIR" help:"Folder of the sources (default: the working directory)."`
	Buildspec string `placeholder:"FILE" help:"The buildspec, a CloudFormation template that has one in it, or a workflow of GitHub Actions (default: buildspec.yml, then buildspec.yaml, then the one workflow that pushes images)."`
	Yes       bool   `short:"y" help:"Write the files without asking."`
}

func (*initCmd) Help() string {
	return `Reads a buildspec of shell lines, or a workflow of GitHub Actions, writes ecsbuild.yml for
what they build and push, and a new buildspec or workflow that runs ecsbuild in their place.
Everything else stays where it is. Shows both, and asks. Runs nothing, and changes no file
that git does not have.`
}

// convertedConfig is what init writes beside the new buildspec.
const convertedConfig = "ecsbuild.yml"

func (c *initCmd) Run(a *app) error {
	dir, err := filepath.Abs(c.Directory)
	if err != nil {
		return err
	}
	name, data, err := c.find(dir)
	if err != nil {
		return err
	}
	for _, file := range []string{convertedConfig, "ecsbuild.yaml"} {
		if _, err := os.Lstat(filepath.Join(dir, file)); !errors.Is(err, fs.ErrNotExist) {
			return &fault.Error{What: filepath.Join(dir, file) + " is there already", Fix: "move it away, or go on with it: ecsbuild plan shows what it does"}
		}
	}
	read := func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, path)) }
	convert := buildspec.Convert
	if buildspec.IsWorkflow(data) {
		convert = buildspec.ConvertWorkflow
	}
	found, err := convert(data, read)
	var nothing *buildspec.NothingError
	switch {
	case errors.As(err, &nothing):
		return &fault.Error{What: name + " cannot be moved over", Why: nothing.Why,
			Fix: "write an ecsbuild.yml: docs/configuration.md has every key"}
	case err != nil:
		return &fault.Error{What: "cannot read " + name, Why: err.Error()}
	}
	found.Notes = append(found.Notes, configNotes(dir, found.Config)...)
	if err := a.describeConversion(name, data, found); err != nil {
		return err
	}
	if found.Config == "" {
		return &fault.Error{What: "nothing is written: no image of " + name + " could be moved over",
			Fix: "write an ecsbuild.yml: docs/configuration.md has every key"}
	}
	asks := !c.Yes && isTerminal(os.Stdin) && isTerminal(a.stderr)
	if c.Yes || asks {
		if err := committed(dir, name); err != nil {
			return err
		}
	}
	if !c.Yes && !(asks && a.confirm("Write these two files?")) {
		return a.lines(a.stderr, "ecsbuild: nothing is written; --yes writes")
	}
	return a.writeConversion(dir, name, found)
}

var variableInConfig = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// configNotes tells of what ecsbuild.yml takes from elsewhere: variables without a default, and
// Dockerfiles that are not in the folder.
func configNotes(dir, text string) (notes []string) {
	var variables []string
	for _, m := range variableInConfig.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(variables, m[1]) {
			variables = append(variables, m[1])
		}
	}
	if len(variables) > 0 {
		notes = append(notes, "ecsbuild.yml takes "+strings.Join(variables, ", ")+
			" from the environment of the build; on your machine, ecsbuild plan needs a value for each, too")
	}
	var file struct {
		Images []struct{ Context, Dockerfile string }
		Gates  []any
	}
	if yaml.Unmarshal([]byte(text), &file) != nil {
		return notes
	}
	for _, img := range file.Images {
		path := filepath.Join(img.Context, cmp.Or(img.Dockerfile, "Dockerfile"))
		if strings.Contains(path, "$") || plan.Remote(img.Context) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, path)); errors.Is(err, fs.ErrNotExist) {
			notes = append(notes, "there is no "+path+
				" here: ecsbuild.yml belongs into the folder of the sources that are built")
		}
	}
	if len(file.Gates) > 0 {
		notes = append(notes, "a gate may take 15 minutes, unless its timeout says otherwise")
	}
	return notes
}

// find reads the buildspec; name is as the user would write it.
func (c *initCmd) find(dir string) (name string, data []byte, err error) {
	names := []string{"buildspec.yml", "buildspec.yaml"}
	if c.Buildspec != "" {
		names = []string{c.Buildspec}
	}
	for _, n := range names {
		path := n
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, n)
		}
		data, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return "", nil, &fault.Error{What: "cannot read " + path, Why: err.Error()}
		}
		return n, data, nil
	}
	if c.Buildspec == "" {
		if name, data, err := findWorkflow(dir); name != "" || err != nil {
			return name, data, err
		}
	}
	return "", nil, &fault.Error{What: "there is no " + strings.Join(names, " or ") + " in " + dir,
		Fix: "name the buildspec, the CloudFormation template that has it, or a workflow of GitHub Actions by --buildspec"}
}

// findWorkflow finds the workflow of GitHub Actions that pushes images; name is "" for none.
func findWorkflow(dir string) (name string, data []byte, err error) {
	var found []string
	for _, pattern := range []string{"*.yml", "*.yaml"} {
		files, _ := filepath.Glob(filepath.Join(dir, ".github", "workflows", pattern))
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err == nil && buildspec.PushesImages(text) {
				found, data = append(found, filepath.Join(".github", "workflows", filepath.Base(f))), text
			}
		}
	}
	switch len(found) {
	case 0:
		return "", nil, nil
	case 1:
		return found[0], data, nil
	}
	return "", nil, &fault.Error{What: "several workflows push images: " + strings.Join(found, ", "),
		Fix: "name one by --buildspec"}
}

// describeConversion shows what would be written, and what could not be translated.
func (a *app) describeConversion(name string, old []byte, found *buildspec.Conversion) error {
	var b bytes.Buffer
	if found.Config != "" {
		b.Write(diff.Diff("/dev/null", nil, convertedConfig, []byte(found.Config)))
		b.Write(diff.Diff(name, old, name, []byte(found.Buildspec)))
	}
	if err := a.lines(a.stdout, strings.TrimRight(b.String(), "\n")); err != nil {
		return err
	}
	for _, p := range found.Problems {
		if err := a.lines(a.stderr, fmt.Sprintf("ecsbuild: warning: %s:%d is not translated: %s\n  why: %s", name, p.Line, p.Command, p.Why)); err != nil {
			return err
		}
	}
	for _, n := range found.Notes {
		if err := a.lines(a.stderr, "ecsbuild: "+n); err != nil {
			return err
		}
	}
	return nil
}

// committed says that git can give a file back as it is.
func committed(dir, name string) error {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, name)
	}
	for _, args := range [][]string{{"ls-files", "--error-unmatch"}, {"diff", "--quiet", "HEAD"}} {
		cmd := exec.Command("git", append(append([]string{"--literal-pathspecs"}, args...), "--", filepath.Base(path))...)
		cmd.Dir = filepath.Dir(path)
		if cmd.Run() != nil {
			return &fault.Error{What: "git does not have " + name + " as it is, so it could not give it back", Fix: "commit it, and run ecsbuild init again"}
		}
	}
	return nil
}

// confirm asks a question; no answer is no.
func (a *app) confirm(question string) bool {
	if _, err := fmt.Fprint(a.stderr, question+" [y/N] "); err != nil {
		return false
	}
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// writeConversion writes both files, or none.
func (a *app) writeConversion(dir, name string, found *buildspec.Conversion) error {
	config, spec := filepath.Join(dir, convertedConfig), name
	if !filepath.IsAbs(spec) {
		spec = filepath.Join(dir, name)
	}
	if err := atomicfile.Write(config, []byte(found.Config), 0o644); err != nil {
		return &fault.Error{What: "cannot write " + config, Why: err.Error()}
	}
	if target, err := filepath.EvalSymlinks(spec); err == nil {
		spec = target // a link stays one
	}
	mode := fs.FileMode(0o644)
	if st, err := os.Stat(spec); err == nil {
		mode = st.Mode().Perm()
	}
	if err := atomicfile.Write(spec, []byte(found.Buildspec), mode); err != nil {
		_ = os.Remove(config)
		return &fault.Error{What: "cannot write " + spec, Why: err.Error()}
	}
	return a.lines(a.stderr, fmt.Sprintf(
		"ecsbuild: %s and %s are written. Next: ecsbuild plan shows what a run does, ecsbuild run --dry-run builds without pushing, and ecsbuild policy prints what the role needs", convertedConfig, name))
}
