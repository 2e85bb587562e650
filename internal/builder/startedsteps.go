package builder

import (
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// withoutSteps leaves out of a status what belongs to steps that others tell of.
func withoutSteps(s *bkclient.SolveStatus, others map[digest.Digest]bool) *bkclient.SolveStatus {
	if len(others) == 0 {
		return s
	}
	return onlySteps(s, func(d digest.Digest) bool { return !others[d] })
}

// onlySteps keeps of a status what belongs to some steps.
func onlySteps(s *bkclient.SolveStatus, keep func(digest.Digest) bool) *bkclient.SolveStatus {
	return &bkclient.SolveStatus{
		Vertexes: filter(s.Vertexes, func(v *bkclient.Vertex) bool { return keep(v.Digest) }),
		Statuses: filter(s.Statuses, func(v *bkclient.VertexStatus) bool { return keep(v.Vertex) }),
		Logs:     filter(s.Logs, func(v *bkclient.VertexLog) bool { return keep(v.Vertex) }),
		Warnings: filter(s.Warnings, func(v *bkclient.VertexWarning) bool { return keep(v.Vertex) }),
	}
}

func filter[T any](in []T, keep func(T) bool) (out []T) {
	for _, v := range in {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}

// startedSteps are the steps of a run's builds, with the times at which they began. A solve
// is told of steps of another one, too, where BuildKit takes two for one.
type startedSteps struct {
	mu sync.Mutex
	at map[digest.Digest]map[time.Time]bool
}

// note remembers what a status tells of.
func (h *startedSteps) note(s *bkclient.SolveStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range s.Vertexes {
		if v.Started == nil {
			continue
		}
		if h.at == nil {
			h.at = map[digest.Digest]map[time.Time]bool{}
		}
		if h.at[v.Digest] == nil {
			h.at[v.Digest] = map[time.Time]bool{}
		}
		h.at[v.Digest][*v.Started] = true
	}
}

// later keeps of a status what belongs to steps that have begun since.
func (h *startedSteps) later(s *bkclient.SolveStatus, begun map[digest.Digest]bool) *bkclient.SolveStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range s.Vertexes {
		if v.Started != nil && !h.at[v.Digest][*v.Started] {
			begun[v.Digest] = true
		}
	}
	return onlySteps(s, func(d digest.Digest) bool { return begun[d] })
}
