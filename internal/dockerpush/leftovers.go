package dockerpush

import (
	"context"
	"errors"
	"net"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/moby/moby/client"
)

// pushedName is a name that a push has in the engine, by its tag or by the digest that the
// engine writes down.
var pushedName = regexp.MustCompile(`^(127\.0\.0\.1:[0-9]+)/` + pathPrefix + `[0-9a-f]{16}(:run|@sha256:[0-9a-f]{64})$`)

// cleaningTimeout bounds the search for names. The next run has another try.
const cleaningTimeout = 10 * time.Second

// removeLeftovers takes away the names of runs that were killed: those of proxies that are gone,
// and of our own address, where nothing has been pushed yet. They would keep their images from
// docker image prune.
func (p *Pusher) removeLeftovers(ctx context.Context, own string) {
	ctx, cancel := context.WithTimeout(ctx, cleaningTimeout)
	defer cancel()
	for _, n := range p.leftoverNames(ctx) {
		if n.addr == own || isGone(ctx, n.addr) {
			_, _ = p.docker.ImageRemove(ctx, n.name, client.ImageRemoveOptions{})
		}
	}
}

// leftoverName is one that a push of another run has in the engine, or of this one.
type leftoverName struct{ name, addr string }

func (p *Pusher) leftoverNames(ctx context.Context) (out []leftoverName) {
	found, err := p.docker.ImageList(ctx, client.ImageListOptions{
		Filters: client.Filters{}.Add("reference", "127.0.0.1:*/"+pathPrefix+"*")})
	if err != nil {
		return nil
	}
	for _, img := range found.Items {
		for _, name := range slices.Concat(img.RepoTags, img.RepoDigests) {
			if m := pushedName.FindStringSubmatch(name); m != nil {
				out = append(out, leftoverName{name, m[1]})
			}
		}
	}
	return out
}

// isGone says that nobody listens there any more.
func isGone(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", addr)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = conn.Close()
	return false
}
