package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// build makes ecsbuild as a release has it, from the working tree or from a
// commit, and says which.
func build(ctx context.Context, top, rev, dir string) (binary, commit string, err error) {
	binary = filepath.Join(dir, "ecsbuild")
	describe := []string{"-C", top, "describe", "--always", "--dirty", "--exclude=*"}
	source := top
	if rev != "" {
		describe = []string{"-C", top, "rev-parse", "--short", rev}
		source = filepath.Join(dir, "source")
		if err := os.Mkdir(source, 0o755); err != nil {
			return "", "", err
		}
		script := `git -C "$1" archive "$2" | tar -x -C "$3"`
		if out, err := exec.CommandContext(ctx, "sh", "-c", script, "sh", top, rev, source).CombinedOutput(); err != nil {
			return "", "", fmt.Errorf("git archive %s: %w\n%s", rev, err, out)
		}
	}
	out, err := exec.CommandContext(ctx, "git", describe...).Output()
	if err != nil {
		return "", "", fmt.Errorf("git %s: %w", strings.Join(describe[2:], " "), err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/ecsbuild")
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, strings.TrimSpace(string(out)), nil
}

const buildxVersion = "v0.38.2"

// buildx returns docker's buildx, built once, beside the engines of
// script/engine.
func buildx(ctx context.Context) (string, error) {
	engines := os.Getenv("ECSBUILD_ENGINES")
	if engines == "" {
		cache, err := os.UserCacheDir() // XDG_CACHE_HOME, else ~/.cache
		if err != nil {
			return "", err
		}
		engines = filepath.Join(cache, "ecsbuild", "engines")
	}
	binary := filepath.Join(engines, "buildx-"+buildxVersion, "docker-buildx")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	log.Printf("building docker buildx %s: three minutes, once", buildxVersion)
	tmp, err := os.MkdirTemp("", "ecsbuild-buildx-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.CommandContext(ctx, "go", "install", "-trimpath", "-ldflags",
		"-s -w -X github.com/docker/buildx/version.Version="+buildxVersion, "github.com/docker/buildx/cmd/buildx@"+
			buildxVersion)
	cmd.Dir, cmd.Env = tmp, append(os.Environ(), "GOBIN="+tmp, "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install buildx: %w\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(tmp, "buildx"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(binary+".new", data, 0o755); err != nil { // renamed when whole: two may build it
		return "", err
	}
	return binary, os.Rename(binary+".new", binary)
}

// dockerClient is the docker command for an engine: Debian's own for Debian's
// engine, for the others what PATH has. One of 23.0 or later builds by way of
// buildx, an older one by itself.
func dockerClient(kind string) (string, error) {
	if kind == "debian" {
		if _, err := os.Stat("/usr/bin/docker"); err == nil {
			return "/usr/bin/docker", nil
		}
	}
	return exec.LookPath("docker")
}
