package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/testscript"
)

// codebuildFile is what CodeBuild reads of one, as far as ours goes.
// https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html
type codebuildFile struct {
	Version float64 `yaml:"version"`
	Env     struct {
		Variables map[string]string `yaml:"variables"`
		Exported  []string          `yaml:"exported-variables"`
	} `yaml:"env"`
	Phases map[string]struct {
		Commands []string `yaml:"commands"`
	} `yaml:"phases"`
	Artifacts struct {
		Files []string `yaml:"files"`
	} `yaml:"artifacts"`
	Cache struct {
		Paths []string `yaml:"paths"`
	} `yaml:"cache"`
	Batch struct {
		FastFail   bool         `yaml:"fast-fail"`
		BuildGraph []batchBuild `yaml:"build-graph"`
	} `yaml:"batch"`
}

// batchBuild is a build of a batch.
// https://docs.aws.amazon.com/codebuild/latest/userguide/batch-build-buildspec.html
type batchBuild struct {
	Identifier string   `yaml:"identifier"`
	DependOn   []string `yaml:"depend-on"`
	Buildspec  string   `yaml:"buildspec"`
	Env        struct {
		ComputeType    string            `yaml:"compute-type"`
		PrivilegedMode bool              `yaml:"privileged-mode"`
		Variables      map[string]string `yaml:"variables"`
	} `yaml:"env"`
}

// codebuildBatch is "codebuildbatch FILE": it runs the build graph of a buildspec, each build in a
// checkout of its own, in the order of their dependencies. As the others do, it gives the checksum.
func codebuildBatch(ts *testscript.TestScript, neg bool, args []string) {
	var spec codebuildFile
	ts.Check(yaml.UnmarshalWithOptions([]byte(ts.ReadFile(args[0])), &spec, yaml.Strict()))
	sources, done := ts.MkAbs("."), map[string]bool{}
	if len(spec.Batch.BuildGraph) == 0 {
		ts.Fatalf("%s has no build graph", args[0])
	}
	for len(done) < len(spec.Batch.BuildGraph) {
		before := len(done)
		for _, b := range spec.Batch.BuildGraph {
			if done[b.Identifier] || slices.ContainsFunc(b.DependOn, func(d string) bool { return !done[d] }) {
				continue
			}
			checkout := ts.MkAbs(ts.Getenv("WORK") + "/build-" + b.Identifier)
			ts.Check(os.CopyFS(checkout, os.DirFS(sources)))
			ts.Check(ts.Chdir(checkout))
			for k, v := range b.Env.Variables {
				ts.Setenv(k, v)
			}
			ts.Setenv("CODEBUILD_BATCH_BUILD_IDENTIFIER", b.Identifier)
			file := b.Buildspec
			if file == "" {
				file = args[0]
			}
			codebuild(ts, neg, []string{file, "checksum"})
			done[b.Identifier] = true
		}
		if len(done) == before {
			ts.Fatalf("the builds of %s wait for each other", args[0])
		}
	}
}

// codebuild is "codebuild FILE [checksum]": it runs a buildspec as CodeBuild does. Each
// command has a shell of its own, with the folder and the variables that the one before it
// has left, all of them exported, as its logs tell; a phase ends with its first failure; a failed build
// phase is followed by post_build all the same, and a failed install or
// pre_build by nothing. The project's variables win over the file's. Last it
// says what became of the artifacts and of the exported variables.
func codebuild(ts *testscript.TestScript, neg bool, args []string) {
	var spec codebuildFile
	ts.Check(yaml.UnmarshalWithOptions([]byte(ts.ReadFile(args[0])), &spec, yaml.Strict()))
	if spec.Version != 0.2 {
		ts.Fatalf("version %v", spec.Version)
	}
	var sh strings.Builder
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	for k, v := range spec.Env.Variables {
		fmt.Fprintf(&sh, "[ -n \"${%s+x}\" ] || export %s=%s\n", k, k, quote(v))
	}
	work := ts.MkAbs(ts.Getenv("WORK") + "/codebuild")
	ts.Check(os.MkdirAll(work, 0o755))
	n := 0
	sh.WriteString("export CODEBUILD_BUILD_SUCCEEDING=1\nexport -p >" + work + "/env\npwd >" + work + "/folder\n")
	for _, name := range []string{"install", "pre_build", "build", "post_build"} {
		if name != "post_build" {
			sh.WriteString("[ $CODEBUILD_BUILD_SUCCEEDING = 0 ] || {\n")
		} else {
			sh.WriteString("[ -n \"$not_built\" ] || {\n")
		}
		fmt.Fprintf(&sh, "echo phase %s\nwhile :; do\n", name)
		for _, c := range spec.Phases[name].Commands {
			n++
			file := fmt.Sprintf("%s/command%d", work, n)
			ts.Check(os.WriteFile(file, []byte("cd \"$(cat "+work+"/folder)\"\nset -a\n. "+work+"/env\n"+c+
				"\nCODEBUILD_LAST_EXIT=$?\nexport -p >"+work+"/env\npwd >"+work+"/folder\nexit $CODEBUILD_LAST_EXIT\n"), 0o644))
			fmt.Fprintf(&sh, "sh %s || {\nCODEBUILD_BUILD_SUCCEEDING=0\necho export CODEBUILD_BUILD_SUCCEEDING=0 >>%s/env\n"+
				"echo phase %s failed\nbreak\n}\n", file, work, name)
		}
		sh.WriteString("break\ndone\n}\n")
		if name == "pre_build" {
			sh.WriteString("[ $CODEBUILD_BUILD_SUCCEEDING = 1 ] || not_built=yes\n")
		}
	}
	sh.WriteString(". " + work + "/env\n")
	for _, f := range spec.Artifacts.Files {
		fmt.Fprintf(&sh, "[ -e %s ] && echo artifact %s || { echo no artifact %s; CODEBUILD_BUILD_SUCCEEDING=0; }\n",
			quote(f), f, f)
	}
	for _, v := range spec.Env.Exported {
		fmt.Fprintf(&sh, "echo \"exported %s=$%s\"\n", v, v)
	}
	sh.WriteString("echo succeeding $CODEBUILD_BUILD_SUCCEEDING\n[ $CODEBUILD_BUILD_SUCCEEDING = 1 ]\n")
	binary, err := exec.LookPath("ecsbuild")
	ts.Check(err)
	ts.Setenv("ECSBUILD_BINARY", binary)
	if len(args) > 1 {
		data, err := os.ReadFile(binary)
		ts.Check(err)
		ts.Setenv("ECSBUILD_SHA256", fmt.Sprintf("%x", sha256.Sum256(data)))
	}
	file := filepath.Join(work, "build")
	ts.Check(os.WriteFile(file, []byte(sh.String()), 0o644))
	err = ts.Exec("sh", file) // CodeBuild's shell, unless told otherwise
	if (err != nil) != neg {
		ts.Fatalf("the build: %v", err)
	}
}

// release is "release FOLDER": it lays out a release as GitHub has one, with
// this build of ecsbuild in it.
func release(ts *testscript.TestScript, neg bool, args []string) {
	binary, err := exec.LookPath("ecsbuild")
	ts.Check(err)
	data, err := os.ReadFile(binary)
	ts.Check(err)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(os.WriteFile(filepath.Join(dir, "ecsbuild_linux_amd64"), data, 0o755))
	ts.Check(os.WriteFile(filepath.Join(dir, "SHA256SUMS"),
		fmt.Appendf(nil, "%x  ecsbuild_linux_amd64\n", sha256.Sum256(data)), 0o644))
}
