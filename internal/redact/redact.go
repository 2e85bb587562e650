// Package redact keeps secrets out of what a run prints, wherever they come from: the
// values that the run holds, in the forms in which tools print them, and user
// information in URLs.
package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Mask stands where a secret stood.
const Mask = "[redacted]"

const (
	minValue  = 4        // bytes of a value that is masked
	minLeaf   = 8        // bytes of a text inside of a JSON value, masked alone
	minInside = 8        // characters of base64 that hold a value among other bytes
	maxValue  = 64 << 10 // bytes of a value that is looked for as a whole
)

// A Set is the secrets of a run. Its methods may be called from any goroutine;
// a nil Set has no values, and masks URLs.
type Set struct {
	mu     sync.RWMutex
	values [256][]string // by first byte, longest first
}

// Add has a value masked from now on, and its forms: base64 of every alphabet,
// also inside of other bytes, as in user:password; as JSON and as a URL write
// it; and each line of it, since logs are cut into lines. Values of fewer than
// four bytes are not masked.
func (s *Set) Add(value string) {
	value = strings.TrimSpace(value)
	if s == nil || len(value) < minValue {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(value) <= maxValue {
		for _, form := range forms(value) {
			s.add(form)
		}
	}
	if lines := strings.Split(value, "\n"); len(lines) > 1 {
		for _, line := range lines {
			if line = strings.TrimSpace(line); len(line) >= minValue {
				s.add(line)
			}
		}
	}
	var tree any
	if json.Unmarshal([]byte(value), &tree) == nil {
		for _, leaf := range leaves(tree) {
			for _, form := range forms(leaf) {
				s.add(form)
			}
		}
	}
}

// leaves are the texts in a JSON value, such as the passwords in Composer's auth.json.
func leaves(tree any) (out []string) {
	switch v := tree.(type) {
	case map[string]any:
		for _, child := range v {
			out = append(out, leaves(child)...)
		}
	case []any:
		for _, child := range v {
			out = append(out, leaves(child)...)
		}
	case string:
		if len(v) >= minLeaf {
			out = append(out, v)
		}
	}
	return out
}

// AddURL has what a URL of the configuration holds of secrets masked: user
// information, however it is written, and the query. Others find the first by its
// form alone.
func (s *Set) AddURL(text string) {
	_, rest, ok := strings.Cut(text, "://")
	if !ok || s == nil {
		return
	}
	if i := strings.LastIndexByte(rest, '@'); i > 0 {
		info := rest[:i]
		user, password, _ := strings.Cut(info, ":")
		host, _, _ := strings.Cut(info, "/")
		_, port, _ := strings.Cut(host, ":")
		isPort := strings.Trim(port, "0123456789") == "" // a path with an @ behind a host
		if !strings.Contains(info, "/") || port != "" && !isPort {
			s.Add(password)
			if user != "git" || password != "" {
				s.Add(info)
			}
		}
	}
	if _, query, ok := strings.Cut(rest, "?"); ok {
		query, _, _ = strings.Cut(query, "#")
		s.Add(query)
	}
}

func (s *Set) add(form string) {
	list := &s.values[form[0]]
	if slices.Contains(*list, form) {
		return
	}
	*list = append(*list, form)
	slices.SortFunc(*list, func(a, b string) int { return len(b) - len(a) })
}

// wraps are where tools break lines of base64: coreutils and MIME, PEM.
var wraps = []int{76, 64}

// forms are the ways in which a value is printed.
func forms(value string) []string {
	query := url.QueryEscape(value)
	out := []string{value, query, strings.ReplaceAll(query, "+", "%20"), url.PathEscape(value), lowerEscapes(query)}
	for _, html := range []bool{true, false} {
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(html)
		if enc.Encode(value) == nil {
			out = append(out, strings.Trim(strings.TrimSuffix(b.String(), "\n"), `"`))
		}
	}
	// As a shell's set -x quotes it.
	for _, quote := range []string{`'\''`, `'"'"'`} {
		out = append(out, strings.ReplaceAll(value, "'", quote))
	}
	out = append(out, strings.ReplaceAll(value, "\n", "\r\n"))
	for _, alphabet := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		// With its newline too, as echo writes it before base64 reads it.
		for _, v := range []string{value, value + "\n"} {
			encoded := alphabet.EncodeToString([]byte(v))
			out = append(out, encoded, strings.TrimRight(encoded, "="))
			for _, width := range wraps {
				for rest := encoded; len(rest) > width || len(rest) < len(encoded) && len(rest) >= minInside; {
					n := min(width, len(rest))
					out = append(out, rest[:n])
					rest = rest[n:]
				}
			}
		}
		// Inside of other bytes a value begins at one of three places of a group
		// of four characters; those that hold other bits too are left out.
		for shift := range 3 {
			encoded := alphabet.WithPadding(base64.NoPadding).EncodeToString(append(make([]byte, shift), value...))
			first := (shift*8 + 5) / 6
			last := (shift + len(value)) * 8 / 6
			if inside := encoded[first:last]; len(inside) >= minInside {
				out = append(out, inside)
			}
		}
	}
	return slices.DeleteFunc(out, func(form string) bool { return len(form) < minValue })
}

// lowerEscapes writes %2F as %2f.
func lowerEscapes(text string) string {
	return escape.ReplaceAllStringFunc(text, strings.ToLower)
}

var escape = regexp.MustCompile(`%[0-9A-F]{2}`)

// userInfo is that of a URL, up to the last @ before its host's end. "git" alone
// is no secret: git@host is how everybody calls a repository. What BuildKit calls
// images by has an @ before the digest.
var userInfo = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)([^/\s?#"'<>\\]*)@`)

// URL masks user information in the URLs of a text.
func URL(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	return userInfo.ReplaceAllStringFunc(text, func(m string) string {
		scheme, info, _ := strings.Cut(m, "://")
		if info == "git@" || scheme == "docker-image" || scheme == "oci-layout" {
			return m
		}
		return scheme + "://" + Mask + "@"
	})
}

// String masks a whole text.
func (s *Set) String(text string) string {
	if s == nil {
		return URL(text)
	}
	out, _ := s.mask([]byte(text), true)
	return URL(string(out))
}

// mask returns a text without its secrets; what may be the beginning of one comes
// back as rest, unless this is the end.
func (s *Set) mask(text []byte, end bool) (out, rest []byte) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	from := 0
	for i := 0; i < len(text); {
		till := i // where the secrets end that begin here, or inside of one another
		for at := i; at < max(till, i+1); at++ {
			for _, v := range s.values[text[at]] {
				left := text[at:]
				if !end && len(left) < len(v) && v[:len(left)] == string(left) {
					return append(out, text[from:i]...), slices.Clone(text[i:])
				}
				if bytes.HasPrefix(left, []byte(v)) {
					till = max(till, at+len(v))
				}
			}
		}
		if till == i {
			i++
			continue
		}
		out = append(append(out, text[from:i]...), Mask...)
		i, from = till, till
	}
	if from == 0 {
		return text, nil
	}
	return append(out, text[from:]...), nil
}

// A Stream masks what comes in pieces, such as the output of one step, also where
// a secret is cut over two of them.
type Stream struct {
	set  *Set
	held []byte
}

// Stream begins one.
func (s *Set) Stream() *Stream { return &Stream{set: s} }

// Next returns what is fit to be shown of all that has come so far. It holds back
// what may be the beginning of a secret.
func (t *Stream) Next(piece []byte) []byte {
	if t.set == nil {
		return piece
	}
	out, rest := t.set.mask(append(t.held, piece...), false)
	t.held = rest
	return out
}

// End returns what was held back.
func (t *Stream) End() []byte {
	if t.set == nil || len(t.held) == 0 {
		return nil
	}
	out, _ := t.set.mask(t.held, true)
	t.held = nil
	return out
}
