package dockerpush

import (
	"context"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

// pushedName is a name that a push has in the engine, by its tag or by the digest that the
// engine writes down.
var pushedName = regexp.MustCompile(`^(127\.0\.0\.1:[0-9]+)/.+/[0-9a-f]{8}(:run|@sha256:[0-9a-f]{64})$`)

// removeLeftovers takes away the names of runs that were killed, whose proxies are gone. They
// would keep their images from docker image prune.
func (p *Pusher) removeLeftovers(ctx context.Context, own string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	filters := client.Filters{}
	for parts := 1; parts <= maxPathParts; parts++ { // a * of a pattern ends at a slash
		filters.Add("reference", "127.0.0.1:*/"+strings.Repeat("*/", parts)+"*")
	}
	found, err := p.docker.ImageList(ctx, client.ImageListOptions{Filters: filters})
	if err != nil {
		return
	}
	for _, img := range found.Items {
		for _, name := range slices.Concat(img.RepoTags, img.RepoDigests) {
			m := pushedName.FindStringSubmatch(name)
			if m == nil || m[1] == own || listens(m[1]) {
				continue
			}
			_, _ = p.docker.ImageRemove(ctx, name, client.ImageRemoveOptions{})
		}
	}
}

// maxPathParts is more than the parts that names of repositories have.
const maxPathParts = 6

func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp4", addr, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
