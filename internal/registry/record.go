package registry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A Record is what earlier runs on this host have learned, in one JSON file.
// Whatever it says is a hint, which whoever asks holds against the registry
// before believing it: a missing or broken file costs time and nothing else.
type Record struct {
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
	maxRecord  = 500      // entries of a kind; the ones not used for longest go
	recordSize = 16 << 20 // bytes of a file that is read at all
	// A use is written down no more often than this, so that most runs that
	// learn nothing write nothing.
	usedOften = 24 * time.Hour
)

// OpenRecord reads the record in a folder, "" for none.
func OpenRecord(folder string) *Record {
	r := &Record{kinds: map[string]map[string]entry{}}
	if folder == "" {
		return r
	}
	r.file = filepath.Join(folder, "record.json")
	if data, err := os.ReadFile(r.file); err == nil && len(data) <= recordSize && (json.Unmarshal(data, &r.kinds) != nil || r.kinds == nil) {
		r.kinds = map[string]map[string]entry{}
	}
	return r
}

// Get decodes what is known into a value of the caller's, if anything is.
func (r *Record) Get(kind, key string, into any) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.kinds[kind][key]
	if !ok || json.Unmarshal(e.Value, into) != nil {
		return false
	}
	if now := time.Now().UTC(); now.Sub(e.Used) > usedOften {
		e.Used, r.dirty = now, true
		r.kinds[kind][key] = e
	}
	return true
}

// Put keeps a value for later runs.
func (r *Record) Put(kind, key string, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kinds[kind] == nil {
		r.kinds[kind] = map[string]entry{}
	}
	r.kinds[kind][key] = entry{Used: time.Now().UTC(), Value: data}
	r.dirty = true
}

// Save writes the record if it has changed. Failing to is no failure of a run.
func (r *Record) Save() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.dirty || r.file == "" {
		return
	}
	for _, entries := range r.kinds {
		keys := make([]string, 0, len(entries))
		for k := range entries {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b string) int { return entries[a].Used.Compare(entries[b].Used) })
		for _, k := range keys[:max(0, len(keys)-maxRecord)] {
			delete(entries, k)
		}
	}
	data, err := json.Marshal(r.kinds)
	if err != nil || os.MkdirAll(filepath.Dir(r.file), 0o755) != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(r.file), ".record-*")
	if err != nil {
		return
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err != nil || cerr != nil || os.Rename(f.Name(), r.file) != nil {
		_ = os.Remove(f.Name())
		return
	}
	r.dirty = false
}
