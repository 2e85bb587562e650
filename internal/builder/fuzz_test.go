package builder

import (
	"errors"
	"strings"
	"testing"
)

// FuzzStep: whatever BuildKit calls a step, and says of its failure, is told.
func FuzzStep(f *testing.F) {
	f.Add("[stage-0 1/3] FROM docker.io/library/base:1@sha256:00", "failed to solve: rpc error: code = Unknown desc = x")
	f.Add("[linux/amd64 internal] load metadata for x", "snapshot 5s0g83bh7w58ff4l73m17l00x does not exist: not found")
	f.Add("importing cache manifest from ", "")
	f.Fuzz(func(t *testing.T, name, message string) {
		s := parseStep(name)
		if !strings.Contains(name, s.base) || !strings.Contains(name, s.platform) {
			t.Errorf("%+v", s)
		}
		e := &BuildError{Step: name, Err: errors.New(message)}
		lostSnapshot(e)
		if !strings.HasSuffix(message, e.Message()) {
			t.Errorf("%q", e.Message())
		}
	})
}
