package plan

import (
	"slices"
	"testing"
)

// TestBuildOrder: what others are built on comes before them, and else the order stays.
func TestBuildOrder(t *testing.T) {
	img := func(name string, on ...string) Image {
		i := Image{ID: name, Build: Build{ImageContexts: map[string]string{}}}
		for _, base := range on {
			i.Build.ImageContexts[base] = base
		}
		return i
	}
	for name, tt := range map[string]struct {
		images []Image
		want   []int
	}{
		"none":            {[]Image{img("a"), img("b")}, []int{0, 1}},
		"one below":       {[]Image{img("a", "b"), img("b"), img("c")}, []int{1, 0, 2}},
		"a chain":         {[]Image{img("a", "b"), img("b", "c"), img("c")}, []int{2, 1, 0}},
		"two on one":      {[]Image{img("a", "c"), img("b", "c"), img("c")}, []int{2, 0, 1}},
		"one on two":      {[]Image{img("a", "b", "c"), img("b", "c"), img("c")}, []int{2, 1, 0}},
		"already ordered": {[]Image{img("a"), img("b", "a"), img("c", "b", "a")}, []int{0, 1, 2}},
	} {
		if got := (&Plan{Images: tt.images}).BuildOrder(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
