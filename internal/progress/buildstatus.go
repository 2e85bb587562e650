package progress

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// A BuildStatus is news of one image's build: what has changed since the last
// one. It holds no secrets.
type BuildStatus struct {
	Steps     []BuildStep
	Output    []StepOutput
	Transfers []Transfer
	Warnings  []BuildWarning
}

// RenameSteps gives all steps other IDs.
func (s *BuildStatus) RenameSteps(id func(digest.Digest) digest.Digest) {
	for i := range s.Steps {
		s.Steps[i].ID = id(s.Steps[i].ID)
	}
	for i := range s.Output {
		s.Output[i].Step = id(s.Output[i].Step)
	}
	for i := range s.Transfers {
		s.Transfers[i].Step = id(s.Transfers[i].Step)
	}
	for i := range s.Warnings {
		s.Warnings[i].Step = id(s.Warnings[i].Step)
	}
}

// A StepKind tells the steps of a build apart.
type StepKind int

// The kinds of steps.
const (
	OtherStep    StepKind = iota // such as the export
	Instruction                  // of the Dockerfile
	BaseStep                     // takes a base image
	InternalStep                 // BuildKit's own housekeeping
	GateStep                     // no step of a build, but a gate of the run
)

// A BuildStep has begun or ended, as its times say.
type BuildStep struct {
	ID        digest.Digest // the same for images that share the step
	Name      string        // "[2/4] RUN composer install"
	Kind      StepKind
	Started   *time.Time // nil for not yet
	Completed *time.Time
	Cached    bool
	Error     string // "" for none
	Canceled  bool   // ended by another failure or by a signal; Error says so as well
}

// StepOutput is what a step has written: any number of bytes.
type StepOutput struct {
	Step   digest.Digest
	Stream int // 1 for standard output, 2 for standard error
	Data   []byte
	Time   time.Time
}

// A Transfer is one part of a base image on its way to the engine.
type Transfer struct {
	Step           digest.Digest
	ID             string
	Current, Total int64 // bytes
}

// A BuildWarning is BuildKit's, of a line in a Dockerfile.
type BuildWarning struct {
	Step digest.Digest
	Text string
	File string // as BuildKit knows it, without its folder; "" for none
	Line int    // from 1; 0 for none
}
