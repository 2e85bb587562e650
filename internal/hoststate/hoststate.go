// Package hoststate keeps what earlier runs on this host have learned.
package hoststate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/atomicfile"
)

// A State is what earlier runs on this host have learned, in one JSON file. A nil
// one knows nothing and keeps nothing.
// Everything in it is a hint, which the caller checks against the registry
// before believing it: a missing or broken file costs time and nothing else.
type State struct {
	file string // "" for none

	mu    sync.Mutex
	kinds map[string]map[string]entry
	dirty bool
}

type entry struct {
	Used  time.Time       `json:"used"`
	Value json.RawMessage `json:"value"`
}

const (
	maxEntries = 500      // entries of a kind; the ones not used for longest go
	maxFile    = 16 << 20 // bytes of a file that is read at all
	// A use is written down no more often than this, so that most runs that
	// learn nothing write nothing.
	usedOften = 24 * time.Hour
)

// FileName is the file of a state.
const FileName = "record.json"

// Open reads the state in a folder, "" for none.
func Open(folder string) *State {
	s := &State{kinds: map[string]map[string]entry{}}
	if folder == "" {
		return s
	}
	s.file = filepath.Join(folder, FileName)
	if data, err := os.ReadFile(s.file); err == nil && len(data) <= maxFile &&
		(json.Unmarshal(data, &s.kinds) != nil || s.kinds == nil) {
		s.kinds = map[string]map[string]entry{}
	}
	return s
}

// Get decodes what is known into a value of the caller's, if anything is.
func (s *State) Get(kind, key string, into any) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.kinds[kind][key]
	if !ok || json.Unmarshal(e.Value, into) != nil {
		return false
	}
	if now := time.Now().UTC(); now.Sub(e.Used) > usedOften {
		e.Used, s.dirty = now, true
		s.kinds[kind][key] = e
	}
	return true
}

// Put keeps a value for later runs.
func (s *State) Put(kind, key string, value any) {
	data, err := json.Marshal(value)
	if err != nil || s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds[kind] == nil {
		s.kinds[kind] = map[string]entry{}
	}
	s.kinds[kind][key] = entry{Used: time.Now().UTC(), Value: data}
	s.dirty = true
}

// Save writes the state if it has changed. Failing to is no failure of a run.
func (s *State) Save() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty || s.file == "" {
		return
	}
	for _, entries := range s.kinds {
		keys := make([]string, 0, len(entries))
		for k := range entries {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b string) int { return entries[a].Used.Compare(entries[b].Used) })
		for _, k := range keys[:max(0, len(keys)-maxEntries)] {
			delete(entries, k)
		}
	}
	data, err := json.Marshal(s.kinds)
	if err != nil || os.MkdirAll(filepath.Dir(s.file), 0o700) != nil {
		return
	}
	s.dirty = atomicfile.Write(s.file, data, 0o600) != nil
}
