package builder

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	"github.com/tonistiigi/fsutil"

	"github.com/ecsbuild/ecsbuild/internal/cachemount"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/selfimage"
)

// The mounts of RUN --mount=type=cache lie in the engine alone. A step of a build of our own
// that mounts the same ones can put files into them and take files out, on every engine: its
// command is this very program, in an image FROM scratch.

// cacheMountNamespace is the argument that sets the mounts of a build apart.
// https://docs.docker.com/reference/dockerfile/#buildkit-built-in-build-args
const cacheMountNamespace = "BUILDKIT_CACHE_MOUNT_NS"

// mountNamespace keeps the mounts of an image apart from those of all other builds on the
// engine: what others have there is not ours to take away.
func (j *Job) mountNamespace() string {
	if ns, ok := j.Image.Build.Args[cacheMountNamespace]; ok {
		return ns
	}
	if !j.Image.Build.CacheMounts {
		return ""
	}
	return "ecsbuild-" + sharedKey(j.pushedKey())[:16]
}

// CanKeepMounts says why the mounts of an engine's builds cannot be kept; where they can, it
// gives the engine's ID. It is the same for all jobs.
func (e *Engine) CanKeepMounts(ctx context.Context, _ Job) (id string, err error) {
	w, err := e.worker(ctx)
	if err != nil {
		return "", err
	}
	// Before 23.0 the worker of every Docker engine is "moby".
	return e.id + " " + w.ID, selfimage.CanRunOn(platforms.Format(w.Platforms[0]))
}

// FillMounts unpacks archives into the mounts of a job, by the names of package cachemount,
// where those are empty.
func (e *Engine) FillMounts(ctx context.Context, j Job, mounts []dockerfile.CacheMount, archives string) error {
	fs, err := fsutil.NewFS(archives)
	if err != nil {
		return err
	}
	step := func(run llb.State) llb.State {
		return run.Run(mountOptions(&j, mounts, cachemount.UnpackArgs(identity.NewID()),
			llb.AddMount(cachemount.InFolder, llb.Local("archives", llb.SharedKeyHint(archives)), llb.Readonly))...).Root()
	}
	return e.runStep(ctx, &j, step, map[string]fsutil.FS{"archives": fs}, nil)
}

// PackMounts packs the mounts of a job into a folder, by the names of package cachemount: of
// each one that is not as its listing says, "" for none.
func (e *Engine) PackMounts(ctx context.Context, j Job, mounts []dockerfile.CacheMount, listings []string,
	folder string) ([]cachemount.Result, error) {
	step := func(run llb.State) llb.State {
		return run.Run(mountOptions(&j, mounts, cachemount.PackArgs(identity.NewID(), listings))...).
			AddMount(cachemount.OutFolder, llb.Scratch())
	}
	err := e.runStep(ctx, &j, step, nil, []bkclient.ExportEntry{{Type: bkclient.ExporterLocal, OutputDir: folder}})
	if err != nil {
		return nil, err
	}
	results := make([]cachemount.Result, len(mounts))
	for n := range mounts {
		data, err := os.ReadFile(filepath.Join(folder, cachemount.ResultName(n)))
		if err == nil {
			err = json.Unmarshal(data, &results[n])
		}
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

// mountOptions are those of a step with the mounts of a job, which has no network.
func mountOptions(j *Job, mounts []dockerfile.CacheMount, args []string, more ...llb.RunOption) []llb.RunOption {
	options := append([]llb.RunOption{llb.Args(append([]string{selfimage.Path}, args...)), llb.Network(pb.NetMode_NONE),
		llb.WithCustomName("[internal] cache mounts")}, more...)
	for n, m := range mounts {
		mount := []llb.MountOption{llb.AsPersistentCacheDir(j.mountNamespace()+"/"+m.ID, llb.CacheMountShared)}
		from := llb.Scratch()
		if m.Owned { // BuildKit knows such a mount by what it begins with, too
			from = from.File(llb.Mkdir("/cache", os.FileMode(m.Mode), llb.WithUIDGID(m.UID, m.GID)))
			mount = append(mount, llb.SourcePath("/cache"))
		}
		options = append(options, llb.AddMount(filepath.Join(cachemount.MountsFolder, strconv.Itoa(n)), from, mount...))
	}
	return options
}

// runStep runs a step in an image of this program alone.
func (e *Engine) runStep(ctx context.Context, j *Job, step func(llb.State) llb.State, folders map[string]fsutil.FS,
	exports []bkclient.ExportEntry) error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	binary, err := fsutil.NewFS(filepath.Dir(path))
	if err == nil {
		binary, err = fsutil.NewFilterFS(binary, &fsutil.FilterOpt{IncludePatterns: []string{filepath.Base(path)}})
	}
	if err != nil {
		return err
	}
	program := llb.Local("ecsbuild", llb.SharedKeyHint("ecsbuild"))
	image := llb.Scratch().File(llb.Copy(program, "/"+filepath.Base(path), selfimage.Path),
		llb.WithCustomName("[internal] cache mounts"))
	def, err := step(image).Marshal(ctx)
	if err != nil {
		return err
	}
	select {
	case e.solves <- struct{}{}:
		defer func() { <-e.solves }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	mounts := map[string]fsutil.FS{"ecsbuild": binary}
	for name, fs := range folders {
		mounts[name] = fs
	}
	log := newStepLog(j.Masked)
	status := make(chan *bkclient.SolveStatus)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for s := range status {
			log.add(buildStatus(s))
		}
	}()
	_, err = e.bk.Solve(ctx, def, bkclient.SolveOpt{LocalMounts: mounts, Exports: exports,
		SharedKey: sharedKey("cache mounts", j.mountNamespace())}, status)
	<-drained
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if _, output := log.lastFailed(); len(output) > 0 {
		return errors.New(strings.TrimPrefix(output[len(output)-1], "ecsbuild: "))
	}
	return err
}
