package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/ociexport"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// maxExports is how often an export is begun when uploads break: what was
// built is in BuildKit's cache, and what was sent is not sent again.
const (
	maxExports = 4
	maxStalls  = 2 // each takes minutes
)

// buildAndExport has BuildKit hand over the blobs, by the content store protocol, or takes
// them from the folder of a private engine.
func (e *Engine) buildAndExport(ctx context.Context, j Job) (*image.Artifact, error) {
	required := map[digest.Digest]bool{} // layers that must come in any case
	direct := e.private != nil           // from its folder
	stalls := 0
	for try := 1; ; try++ {
		copies := e.newBaseCopy(&j)
		store := ociexport.New(ociexport.Options{Build: j.Image.Build, Store: j.Store, Bases: j.Bases, Inputs: j.Inputs,
			State: j.State, Compressions: e.compressions, Required: required})
		export := bkclient.ExportEntry{Type: bkclient.ExporterOCI, Attrs: exportAttrs(j.Image.Build), OutputStore: store}
		if direct {
			export = directExport(&j)
		}
		res, err := e.solve(ctx, &j, []bkclient.ExportEntry{export}, copies)
		if j.result == nil {
			j.Image.Build.NoCache = false // what has just been built need not be built again
		}
		if err == nil && direct {
			if err = e.copyBlobs(ctx, store, res); errors.Is(err, fs.ErrNotExist) {
				direct = false // the engine has left a layer where it is, and fetches it for an export of this kind
				copies.end()
				store.Wait()
				continue
			}
		}
		copies.end()
		store.Wait()
		if err == nil {
			b, err := store.Artifact(ctx, res.ExporterResponse)
			var other *ociexport.RecompressError
			if errors.As(err, &other) && len(required) == 0 {
				for _, d := range other.Layers {
					required[d] = true
				}
				continue
			}
			return b, err
		}
		if ctx.Err() != nil { // uploads fail for the same reason, in other words
			return nil, context.Cause(ctx)
		}
		failed := store.Err()
		if failed == nil {
			return nil, err
		}
		var temporary interface{ Temporary() bool }
		var stalled interface{ Stalled() bool }
		if errors.As(failed, &stalled) && stalled.Stalled() {
			stalls++
		}
		if try == maxExports || stalls == maxStalls || !errors.As(failed, &temporary) || !temporary.Temporary() {
			return nil, failed
		}
		j.Note(progress.Info, fmt.Sprintf("an upload was interrupted (%v): sending the rest again", failed))
		select {
		case <-time.After(time.Duration(try) * time.Second):
		case <-ctx.Done():
		}
	}
}

// directExport has BuildKit write the manifest of an image, and keep its blobs, in a private
// engine. It does not fetch the layers of a cached step for that, as an export of type oci
// does: those are in the registry, most often. The name keeps the blobs from being deleted.
// https://github.com/moby/buildkit/blob/v0.25.2/exporter/containerimage/export.go
func directExport(j *Job) bkclient.ExportEntry {
	attrs := maps.Clone(exportAttrs(j.Image.Build))
	delete(attrs, "tar")
	attrs["name"], attrs["unsafe-internal-store-allow-incomplete"] = "ecsbuild/"+sharedKey(j.pushedKey())[:16], "true"
	return bkclient.ExportEntry{Type: bkclient.ExporterImage, Attrs: attrs}
}

// copyBlobs copies what directExport has left.
func (e *Engine) copyBlobs(ctx context.Context, store *ociexport.Store, res *bkclient.SolveResponse) error {
	root, err := ociexport.Root(res.ExporterResponse)
	if err != nil {
		return err
	}
	if err := store.CopyFrom(ctx, e.private.Blobs(), root); err != nil {
		return err
	}
	e.removals.Go(func() { // the layers stay in BuildKit's cache, as long as it keeps them
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		_, _ = e.docker.ImageRemove(ctx, res.ExporterResponse["image.name"], client.ImageRemoveOptions{Force: true})
	})
	return nil
}
