package builder

import (
	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

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
func (m *masking) mask(s *bkclient.SolveStatus) {
	for _, v := range s.Vertexes {
		v.Name, v.Error = m.set.String(v.Name), m.set.String(v.Error)
	}
	for _, st := range s.Statuses {
		st.ID, st.Name = m.set.String(st.ID), m.set.String(st.Name)
	}
	for _, w := range s.Warnings {
		w.Short = []byte(m.set.String(string(w.Short)))
		for i, d := range w.Detail {
			w.Detail[i] = []byte(m.set.String(string(d)))
		}
	}
	for _, l := range s.Logs {
		key := outputStream{l.Vertex, l.Stream}
		if m.streams[key] == nil {
			m.streams[key] = m.set.Stream()
		}
		l.Data = m.streams[key].Next(l.Data)
	}
	for _, v := range s.Vertexes {
		if v.Completed != nil {
			s.Logs = append(s.Logs, m.end(v)...)
		}
	}
}

// end gives what is left of a step's output.
func (m *masking) end(v *bkclient.Vertex) (out []*bkclient.VertexLog) {
	for key, stream := range m.streams {
		if key.step != v.Digest {
			continue
		}
		delete(m.streams, key)
		if data := stream.End(); len(data) > 0 {
			out = append(out, &bkclient.VertexLog{Vertex: v.Digest, Stream: key.number, Data: data, Timestamp: *v.Completed})
		}
	}
	return out
}
