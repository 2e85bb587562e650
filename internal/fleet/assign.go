package fleet

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A unit is what one member builds: an image, a part of one, or images that are built on each
// other.
type unit struct {
	key       string // of the hash: repository and name of the first image
	platforms []string
	images    []plan.Image // or a part of one
	split     bool         // it is a part
	order     []*member
}

// assign gives each unit the members that can build it, in the order in which they are asked. That
// depends on the names of images and members alone, so that an image meets its own cache again.
// https://en.wikipedia.org/wiki/Rendezvous_hashing
func assign(units []*unit, members []*member) {
	pools := map[string]*pool{}
	for _, u := range units {
		able, native := capable(members, u.platforms)
		rest := slices.DeleteFunc(slices.Clone(able), func(m *member) bool { return slices.Contains(native, m) })
		for _, some := range [][]*member{native, rest} {
			ranked := slices.Clone(some)
			slices.SortFunc(ranked, func(a, b *member) int { return -cmp.Compare(score(u.key, a), score(u.key, b)) })
			u.order = append(u.order, ranked...)
		}
		if len(native) == 0 {
			native = able
		}
		key := ""
		for _, m := range native {
			key += fmt.Sprint(m.index, " ")
		}
		if pools[key] == nil {
			pools[key] = &pool{members: native}
		}
		pools[key].units = append(pools[key].units, u)
	}
	for _, p := range pools {
		p.balance()
	}
}

// A pool is members, and units that are theirs by right.
type pool struct {
	members []*member
	units   []*unit
}

// balance moves units to a later member of the pool in their orders, where the first one has its
// share: hashing alone would give some members a third more than others.
func (p *pool) balance() {
	slices.SortFunc(p.units, func(a, b *unit) int { return cmp.Compare(a.key, b.key) })
	total := 0.0
	for _, m := range p.members {
		total += m.weight
	}
	load := map[*member]float64{}
	for _, u := range p.units {
		for i, m := range u.order[:len(p.members)] {
			if load[m] < math.Ceil(float64(len(p.units))*m.weight/total) {
				load[m]++
				u.order = slices.Insert(slices.Delete(u.order, i, i+1), 0, m)
				break
			}
		}
	}
}

// score is how much a member attracts a unit: its weight decides how many come to it.
func score(key string, m *member) float64 {
	sum := sha256.Sum256([]byte(m.name + "\x00" + key))
	u := (float64(binary.BigEndian.Uint64(sum[:])>>11) + 0.5) / (1 << 53)
	return -m.weight / math.Log(u)
}

// capable are the members that build for all of some platforms, and those of them whose machine has
// them natively.
func capable(members []*member, wanted []string) (able, native []*member) {
	for _, m := range members {
		if !m.builds(wanted) {
			continue
		}
		able = append(able, m)
		if m.isNative(wanted) {
			native = append(native, m)
		}
	}
	return able, native
}

// builds says that a member builds for all of some platforms.
func (m *member) builds(wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(w string) bool {
		p, err := platforms.Parse(w)
		return err != nil ||
			!slices.ContainsFunc(m.platforms, func(h ocispec.Platform) bool { return platforms.OnlyStrict(h).Match(p) })
	})
}

// isNative says that a member's machine runs all of some platforms, which it builds for, without
// emulation.
func (m *member) isNative(wanted []string) bool {
	own := platforms.Only(m.platforms[0]) // of its family, as 386 on amd64
	return !slices.ContainsFunc(wanted, func(w string) bool {
		p, err := platforms.Parse(w)
		return err != nil || !own.Match(p)
	})
}

// makeUnits says which images are built together and which in parts.
func makeUnits(images []plan.Image, members []*member) (units []*unit) {
	group := map[string]*unit{} // by the names of images that are built on each other
	linked := map[string]bool{}
	for _, img := range images {
		for _, base := range img.Build.ImageContexts {
			linked[img.Name()], linked[base] = true, true
		}
	}
	for _, img := range images {
		key := img.Repository + " " + img.Name()
		if !linked[img.Name()] {
			for _, p := range split(img, members) {
				part := img
				if p != nil {
					part = img.ForPlatforms(p)
				}
				units = append(units, &unit{key: key + " " + strings.Join(p, ","), platforms: part.Build.Platforms,
					images: []plan.Image{part}, split: p != nil})
			}
			continue
		}
		u := group[img.Name()]
		if u == nil {
			u = &unit{key: key}
			units = append(units, u)
			for _, name := range connected(images, img.Name()) {
				group[name] = u
			}
		}
		u.images = append(u.images, img)
		for _, p := range img.Build.Platforms {
			if !slices.Contains(u.platforms, p) {
				u.platforms = append(u.platforms, p)
			}
		}
	}
	return units
}

// connected are the names of all images that are built on each other with one.
func connected(images []plan.Image, name string) []string {
	found := map[string]bool{name: true}
	for grown := true; grown; {
		grown = false
		for _, img := range images {
			for _, base := range img.Build.ImageContexts {
				if found[img.Name()] != found[base] {
					found[img.Name()], found[base], grown = true, true, true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// split gives the platforms of an image that are built apart, each where it is native; nil alone
// for an image that one member builds.
func split(img plan.Image, members []*member) (parts [][]string) {
	all := img.Build.Platforms
	if able, native := capable(members, all); len(all) < 2 || len(native) > 0 || len(able) > 0 && !spread(all, members) {
		return [][]string{nil}
	}
	var pools []string
	byPool := map[string][]string{}
	for _, p := range all {
		_, native := capable(members, []string{p})
		pool := p // one that nobody has natively
		if len(native) > 0 {
			pool = ""
			for _, m := range native {
				pool += " " + m.name
			}
		}
		if byPool[pool] == nil {
			pools = append(pools, pool)
		}
		byPool[pool] = append(byPool[pool], p)
	}
	if len(pools) == 1 {
		return [][]string{nil}
	}
	for _, pool := range pools {
		parts = append(parts, byPool[pool])
	}
	return parts
}

// spread says that more of some platforms are native somewhere than any one member has.
func spread(all []string, members []*member) bool {
	most, anywhere := 0, 0
	for _, m := range members {
		n := 0
		for _, p := range all {
			if one := []string{p}; m.builds(one) && m.isNative(one) {
				n++
			}
		}
		most = max(most, n)
	}
	for _, p := range all {
		if _, native := capable(members, []string{p}); len(native) > 0 {
			anywhere++
		}
	}
	return anywhere > most
}
