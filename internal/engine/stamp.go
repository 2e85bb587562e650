package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// InputsLabel is the label of an image that says what it was made of.
const InputsLabel = "dev.ecsbuild.inputs"

// A Stamp is what an image says of itself. The label holds the hash of its
// inputs, the digest of its config without the label, and, where it is known,
// the time: an image that is made FROM another inherits the label, and has
// another config.
type Stamp struct {
	Hash  string    // of its Inputs
	Since time.Time // nothing in it came from a cache that is older; zero for unknown
}

// ReadStamp reads an image's config; ok is false where it has no stamp, or
// another image's.
func ReadStamp(config []byte) (s Stamp, ok bool) {
	c, err := openConfig(config)
	if err != nil {
		return s, false
	}
	fields := strings.Fields(c.labels[InputsLabel])
	if sum, err := configSum(c); err != nil || len(fields) < 2 || fields[1] != sum.Encoded() {
		return s, false
	}
	s.Hash = fields[0]
	if len(fields) > 2 {
		s.Since, _ = time.Parse(time.RFC3339, fields[2])
	}
	return s, true
}

// write gives the config with the stamp.
func (s Stamp) write(config []byte) ([]byte, error) {
	c, err := openConfig(config)
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
	c.labels[InputsLabel] = label
	return c.encode()
}

// imageConfig is an image's config, whose keys nobody here needs to know.
type imageConfig struct {
	all, run map[string]json.RawMessage // run is the key "config"
	labels   map[string]string
}

func openConfig(data []byte) (c imageConfig, err error) {
	if err := json.Unmarshal(data, &c.all); err != nil {
		return c, fmt.Errorf("the image's config: %w", err)
	}
	if raw := c.all["config"]; raw != nil {
		if err := json.Unmarshal(raw, &c.run); err != nil {
			return c, fmt.Errorf("the image's config: %w", err)
		}
	}
	if raw := c.run["Labels"]; raw != nil {
		if err := json.Unmarshal(raw, &c.labels); err != nil {
			return c, fmt.Errorf("the image's labels: %w", err)
		}
	}
	if c.all == nil {
		c.all = map[string]json.RawMessage{}
	}
	if c.run == nil {
		c.run = map[string]json.RawMessage{}
	}
	if c.labels == nil {
		c.labels = map[string]string{}
	}
	return c, nil
}

// encode writes the keys in their order, so that equal configs are equal bytes.
func (c imageConfig) encode() ([]byte, error) {
	delete(c.run, "Labels")
	var err error
	if len(c.labels) > 0 {
		if c.run["Labels"], err = json.Marshal(c.labels); err != nil {
			return nil, err
		}
	}
	if c.all["config"], err = json.Marshal(c.run); err != nil {
		return nil, err
	}
	return json.Marshal(c.all)
}

// configSum is the digest of a config without its stamp.
func configSum(c imageConfig) (digest.Digest, error) {
	stamp, ok := c.labels[InputsLabel]
	delete(c.labels, InputsLabel)
	data, err := c.encode()
	if ok {
		c.labels[InputsLabel] = stamp
	}
	return digest.FromBytes(data), err
}

// stamp gives the config of an image, stamped where it is known what it was
// made of.
func (in *Inputs) stamp(config []byte) ([]byte, error) {
	if in == nil || !in.Held() {
		return config, nil
	}
	s := Stamp{in.Hash, in.Since}
	if in.timeless {
		s.Since = time.Time{}
	}
	return s.write(config)
}

// withConfig gives a manifest that names another config.
func withConfig(m Manifest, config []byte) (Manifest, error) {
	var from ocispec.Manifest
	if err := json.Unmarshal(m.Data, &from); err != nil {
		return m, fmt.Errorf("the image's manifest: %w", err)
	}
	from.Config.Digest, from.Config.Size = digest.FromBytes(config), int64(len(config))
	return m.with("config", from.Config)
}

// with replaces one key of a manifest or index.
func (m Manifest) with(key string, value any) (Manifest, error) {
	all := map[string]json.RawMessage{}
	err := json.Unmarshal(m.Data, &all)
	if err == nil {
		all[key], err = json.Marshal(value)
	}
	if err == nil {
		m.Data, err = json.Marshal(all)
	}
	m.Digest = digest.FromBytes(m.Data)
	return m, err
}
