package engine

import (
	"context"
	"net/url"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// FreeDisk is the space left where the engine keeps its images, in bytes; ok
// is false where that is not on this machine, or not to be known.
func (e *Engine) FreeDisk() (free int64, ok bool) {
	u, err := url.Parse(e.Endpoint.Docker)
	if e.docker == nil || err != nil || u.Scheme != "unix" {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	info, err := e.docker.Info(ctx, client.InfoOptions{})
	if err != nil {
		return 0, false
	}
	var st unix.Statfs_t
	if err := unix.Statfs(info.Info.DockerRootDir, &st); err != nil {
		return 0, false // Docker Desktop's root lies in its virtual machine
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
