package builder

import (
	"strings"

	"golang.org/x/sys/unix"
)

// LowDisk is what an engine should have left, in bytes.
const LowDisk = 2 << 30

// FreeDisk is the space left where the engine keeps its images, in bytes; ok
// is false where that is not on this machine, or not to be known.
func (e *Engine) FreeDisk() (free int64, ok bool) {
	if e.root == "" || !strings.HasPrefix(e.Endpoint.Docker, "unix://") {
		return 0, false
	}
	var st unix.Statfs_t
	if err := unix.Statfs(e.root, &st); err != nil {
		return 0, false // Docker Desktop's root lies in its virtual machine
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
