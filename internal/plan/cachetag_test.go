package plan

import (
	"strings"
	"testing"
)

// TestCacheNames: parts of an image have caches of their own, also where names are long.
func TestCacheNames(t *testing.T) {
	img := Image{ID: "shop/web"}
	part := img.ForPlatforms([]string{"linux/arm64", "linux/arm/v7"})
	if got := part.CacheTag(); got != "buildcache-shop-web.linux-arm64.linux-arm-v7" ||
		part.PartName() != "shop/web linux/arm64,linux/arm/v7" {
		t.Error(got, part.PartName())
	}
	if img.CacheTag() != "buildcache-shop-web" || img.CacheMountsTag() != "cachemounts-shop-web" ||
		img.PartName() != "shop/web" {
		t.Errorf("%+v", img)
	}
	img.ID = strings.Repeat("x", 200)
	a, b := img.ForPlatforms([]string{"linux/amd64"}).CacheTag(), img.ForPlatforms([]string{"linux/arm64"}).CacheTag()
	if len(a) != maxTag || len(b) != maxTag || a == b {
		t.Error(a, b)
	}
}
