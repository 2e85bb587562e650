package fingerprint

import (
	"context"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/image"
)

// LabelName is the label of an image that says what it was made of.
const LabelName = "dev.ecsbuild.inputs"

// A Label is what an image says of itself. The label holds the hash of its
// inputs, the digest of its config without the label, and, where it is known,
// the time: an image that is made FROM another inherits the label, and has
// another config.
type Label struct {
	Hash  string    // of its Inputs
	Since time.Time // nothing in it came from a cache that is older; zero for unknown
}

// ReadLabel reads an image's config; ok is false where it has no label, or
// another image's.
func ReadLabel(config []byte) (s Label, ok bool) {
	c, err := image.ParseConfig(config)
	if err != nil {
		return s, false
	}
	fields := strings.Fields(c.Labels[LabelName])
	if sum, err := configSum(c); err != nil || len(fields) < 2 || fields[1] != sum.Encoded() {
		return s, false
	}
	s.Hash = fields[0]
	if len(fields) > 2 {
		s.Since, _ = time.Parse(time.RFC3339, fields[2])
	}
	return s, true
}

// Write returns the config with the label.
func (s Label) Write(config []byte) ([]byte, error) {
	c, err := image.ParseConfig(config)
	if err != nil {
		return nil, err
	}
	sum, err := configSum(c)
	if err != nil {
		return nil, err
	}
	label := s.Hash + " " + sum.Encoded()
	if !s.Since.IsZero() {
		label += " " + s.Since.UTC().Format(time.RFC3339)
	}
	c.Labels[LabelName] = label
	return c.Encode()
}

// configSum is the digest of a config without the label.
func configSum(c image.Config) (digest.Digest, error) {
	label, ok := c.Labels[LabelName]
	delete(c.Labels, LabelName)
	data, err := c.Encode()
	if ok {
		c.Labels[LabelName] = label
	}
	return digest.FromBytes(data), err
}

// AddLabel returns the config of an image, with the label where it is known what the
// image was made of.
func (in *Inputs) AddLabel(ctx context.Context, config []byte) ([]byte, error) {
	if in == nil || !in.Verify(ctx) {
		return config, nil
	}
	s := Label{in.Hash, in.Since}
	if in.timeless {
		s.Since = time.Time{}
	}
	return s.Write(config)
}
