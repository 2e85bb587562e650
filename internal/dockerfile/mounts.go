package dockerfile

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// A CacheMount is a RUN --mount=type=cache. Mounts with one ID are one.
type CacheMount struct {
	ID    string // without the namespace of the build
	Owned bool   // it is made with an owner or mode of its own: the three below
	UID   int
	GID   int
	Mode  uint32 // of its folder
}

// CacheMounts are the cache mounts of all stages, each once, by ID. leftOut are those that
// cannot be told before the build, or whose content begins with an image's: their IDs.
func (d *File) CacheMounts() (mounts []CacheMount, leftOut []string) {
	if d == nil {
		return nil, nil
	}
	for _, s := range d.stages {
		for _, c := range s.Commands {
			run, ok := c.(*instructions.RunCommand)
			if !ok || run.Expand(func(word string) (string, error) { return word, nil }) != nil {
				continue // without it the parser leaves mounts as they are written; the build says what is wrong with one
			}
			for _, m := range instructions.GetMounts(run) {
				if m.Type != instructions.MountTypeCache {
					continue
				}
				found, known := cacheMount(m)
				if !known {
					leftOut = append(leftOut, found.ID)
				} else if !slices.Contains(mounts, found) {
					mounts = append(mounts, found)
				}
			}
		}
	}
	slices.SortFunc(mounts, func(a, b CacheMount) int { return cmp.Compare(a.ID, b.ID) })
	slices.Sort(leftOut)
	return mounts, slices.Compact(leftOut)
}

// cacheMount reads one as BuildKit does.
// https://github.com/moby/buildkit/blob/v0.34.2/frontend/dockerfile/dockerfile2llb/convert_runmount.go
func cacheMount(m *instructions.Mount) (out CacheMount, known bool) {
	out.ID = m.CacheID
	if out.ID == "" {
		out.ID = path.Clean(m.Target)
	}
	if m.From != "" || m.Source != "" && m.Source != "/" || strings.Contains(out.ID, "$") {
		return out, false
	}
	if m.UID == nil && m.GID == nil && m.Mode == nil {
		return out, true
	}
	out.Owned, out.Mode = true, 0o755
	if m.UID != nil {
		out.UID = int(*m.UID)
	}
	if m.GID != nil {
		out.GID = int(*m.GID)
	}
	if m.Mode != nil {
		out.Mode = uint32(*m.Mode)
	}
	return out, true
}
