package buildspec

import (
	"fmt"
	"slices"
	"strings"
)

// started is a service that docker compose up builds and starts. It stays where its image is not pushed.
type started struct {
	service, image string
	at             *command
}

// makes says whether an image has the name that Compose gives it.
func (s started) makes(r reference) bool {
	if s.image != "" {
		return parseReference(s.image) == r
	}
	return strings.HasSuffix(r.name, "_"+s.service) || strings.HasSuffix(r.name, "-"+s.service)
}

// whyUnknown says why there is no build of an image that is pushed.
func (c *converter) whyUnknown(r reference) string {
	was := r
	if i := slices.Index(c.foreign, r); i >= 0 {
		was = c.tagged[i]
	}
	for _, s := range c.started {
		if s.makes(was) {
			return fmt.Sprintf("docker compose up builds %s and starts it as well, in line %d", out(was.String()), s.at.line)
		}
	}
	return "no image that is built here has this name"
}
