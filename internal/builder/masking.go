package builder

import (
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
)

// masking keeps secrets out of what BuildKit tells of one build, before anybody
// hears of it.
type masking struct {
	set     *redact.Set
	streams map[outputStream]*redact.Stream
}

// outputStream is the standard output or error of one step.
type outputStream struct {
	step   digest.Digest
	number int
}

func newMasking(set *redact.Set) *masking {
	return &masking{set: set, streams: map[outputStream]*redact.Stream{}}
}

// mask changes a status in place. The output of a step is held back where it may
// be the beginning of a secret, until more comes or the step ends.
func (m *masking) mask(s *progress.BuildStatus) {
	for i := range s.Steps {
		v := &s.Steps[i]
		v.Name, v.Error = m.set.String(v.Name), m.set.String(v.Error)
	}
	for i := range s.Transfers {
		s.Transfers[i].ID = m.set.String(s.Transfers[i].ID)
	}
	for i := range s.Warnings {
		s.Warnings[i].Text = m.set.String(s.Warnings[i].Text)
	}
	for i := range s.Output {
		o := &s.Output[i]
		key := outputStream{o.Step, o.Stream}
		if m.streams[key] == nil {
			m.streams[key] = m.set.Stream()
		}
		o.Data = m.streams[key].Next(o.Data)
	}
	for _, v := range s.Steps {
		if v.Completed != nil {
			s.Output = append(s.Output, m.end(v)...)
		}
	}
}

// end returns what is left of a step's output.
func (m *masking) end(v progress.BuildStep) (out []progress.StepOutput) {
	for key, stream := range m.streams {
		if key.step != v.ID {
			continue
		}
		delete(m.streams, key)
		if data := stream.End(); len(data) > 0 {
			out = append(out, progress.StepOutput{Step: v.ID, Stream: key.number, Data: data, Time: *v.Completed})
		}
	}
	return out
}
