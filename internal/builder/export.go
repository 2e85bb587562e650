package builder

import (
	"context"
	"errors"
	"fmt"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/ociexport"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// maxExports is how often an export is begun when uploads break: what was
// built is in BuildKit's cache, and what was sent is not sent again.
const maxExports = 4

// buildAndExport exports through BuildKit's content store protocol.
func (e *Engine) buildAndExport(ctx context.Context, j Job) (*image.Artifact, error) {
	required := map[digest.Digest]bool{} // layers that must come in any case
	for try := 1; ; try++ {
		copies := e.newBaseCopy(&j)
		store := ociexport.New(ociexport.Options{Build: j.Image.Build, Store: j.Store, Bases: j.Bases, Inputs: j.Inputs,
			State: j.State, Compressions: e.compressions, Required: required})
		res, err := e.solve(ctx, &j, []bkclient.ExportEntry{{Type: bkclient.ExporterOCI, Attrs: exportAttrs(j.Image.Build),
			OutputStore: store}}, copies)
		copies.end()
		store.Wait()
		j.Image.Build.NoCache = false // what has just been built need not be built again
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
		if try == maxExports || !errors.As(failed, &temporary) || !temporary.Temporary() {
			return nil, failed
		}
		j.Note(progress.Info, fmt.Sprintf("an upload was interrupted (%v): sending the rest again", failed))
		select {
		case <-time.After(time.Duration(try) * time.Second):
		case <-ctx.Done():
		}
	}
}
