package plan

import "github.com/containerd/platforms"

// NormalPlatform spells a platform as BuildKit does: linux/arm64 for linux/arm64/v8. What is none
// stays as it is.
func NormalPlatform(name string) string {
	p, err := platforms.Parse(name)
	if err != nil {
		return name
	}
	return platforms.Format(platforms.Normalize(p))
}
