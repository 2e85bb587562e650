package builder

import (
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// Steps are the steps of one build, with what they took.
type Steps struct {
	mu        sync.Mutex
	byID      map[digest.Digest]progress.BuildStep
	lostCache bool
}

// Observe is told of news of a build. What a step is told of first counts: BuildKit begins
// a cached step again when it fetches its layers, and a build that is tried once more finds
// in the cache what the first try has made.
func (s *Steps) Observe(news *progress.BuildStatus) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[digest.Digest]progress.BuildStep{}
	}
	for _, v := range news.Steps {
		if old, ok := s.byID[v.ID]; !ok || old.Completed == nil || old.Error != "" {
			s.byID[v.ID] = v
		}
	}
}

// loseCache is told that the image's own cache could not be used.
func (s *Steps) loseCache() {
	if s != nil {
		s.mu.Lock()
		s.lostCache = true
		s.mu.Unlock()
	}
}

// LostCache says whether the image's own cache could not be used.
func (s *Steps) LostCache() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lostCache
}

// Executed is what the instructions took that ran, and were not found in a cache.
func (s *Steps) Executed() (sum time.Duration) {
	for _, v := range s.All() {
		if v.Kind == progress.Instruction && !v.Cached && v.Completed != nil && v.Error == "" {
			sum += v.Completed.Sub(*v.Started)
		}
	}
	return sum
}

// All are the steps, in the order in which they began.
func (s *Steps) All() (out []progress.BuildStep) {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.byID {
		if v.Started != nil {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b progress.BuildStep) int { return a.Started.Compare(*b.Started) })
	return out
}
