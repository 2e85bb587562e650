package fingerprint

import (
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// What BuildKit calls the two folders of a build.
const (
	ContextName    = "context"
	DockerfileName = "dockerfile"
)

// ContextFS reads a folder as a build sees it: files belong to root, as
// docker build has it, and not to the user who checked them out. The registry of --local, which
// lies among the sources, is no part of them, nor are the run's own outputs
// (absolute paths of files or folders, without links), which a dry run leaves where they are. Where marks knows
// the content of a file, its hash stands in the nanoseconds of the file's time, since
// BuildKit compares size, time and mode alone.
func ContextFS(dir string, outputs []string, marks *ContentTimes) (fsutil.FS, error) {
	fs, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, err
	}
	real := dir
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		real = target
	}
	return fsutil.NewFilterFS(fs, &fsutil.FilterOpt{
		ExcludePatterns: []string{".ecsbuild"},
		Map: func(path string, st *fstypes.Stat) fsutil.MapResult {
			if isOutput(outputs, filepath.Join(real, path)) {
				return fsutil.MapResultExclude
			}
			st.Uid, st.Gid = 0, 0
			if n, ok := marks.Of(filepath.Join(dir, path)); ok {
				st.ModTime += n - st.ModTime%int64(time.Second)
			}
			return fsutil.MapResultKeep
		},
	})
}

// isOutput says whether a path is an output, or lies in a folder that is one.
func isOutput(outputs []string, path string) bool {
	return slices.ContainsFunc(outputs, func(o string) bool {
		return path == o || strings.HasPrefix(path, o+string(filepath.Separator))
	})
}

// ContentTimes tell files of different contents apart, by a number below a billion:
// BuildKit takes a file for the one that it has by its size, time and mode alone.
// nil has none.
type ContentTimes struct{ files sync.Map } // by absolute path

func (m *ContentTimes) Of(path string) (int64, bool) {
	if m == nil {
		return 0, false
	}
	n, ok := m.files.Load(path)
	if !ok {
		return 0, false
	}
	return n.(int64), true
}

// set takes the SHA-256 of a file.
func (m *ContentTimes) set(path string, sum []byte) {
	m.files.Store(path, int64(binary.BigEndian.Uint32(sum))%int64(time.Second))
}
