package image

import "github.com/opencontainers/go-digest"

// A Ref names an image in a registry, or, without Registry, in an engine alone.
type Ref struct {
	Registry   string // host, with a port where there is one; "" for none
	Repository string
	Tag        string        // "" for none
	Digest     digest.Digest // "" for none
}

// Name is the reference without tag and digest: registry and repository.
func (r Ref) Name() string {
	if r.Registry == "" {
		return r.Repository
	}
	return r.Registry + "/" + r.Repository
}

// String is the reference as docker spells it.
func (r Ref) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// WithDigest names the same image by what it is as well.
func (r Ref) WithDigest(d digest.Digest) Ref {
	r.Digest = d
	return r
}

// ByDigest names the same image by what it is alone.
func (r Ref) ByDigest(d digest.Digest) Ref {
	r.Tag, r.Digest = "", d
	return r
}

// WithTag names another image of the repository.
func (r Ref) WithTag(tag string) Ref {
	r.Tag, r.Digest = tag, ""
	return r
}
