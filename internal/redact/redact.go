// Package redact keeps secrets out of what a run prints, whoever says them: the
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
	minLine   = 8        // bytes of a line of a value of several lines, masked alone
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
			if line = strings.TrimSpace(line); len(line) >= minLine {
				s.add(line)
			}
		}
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

// forms are the ways in which a value is printed.
func forms(value string) []string {
	out := []string{value, url.QueryEscape(value), url.PathEscape(value)}
	if quoted, err := json.Marshal(value); err == nil {
		out = append(out, string(quoted[1:len(quoted)-1]))
	}
	if strings.Contains(value, "\n") {
		out = append(out, strings.ReplaceAll(value, "\n", "\r\n"))
	}
	for _, alphabet := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		// With its newline too, as echo writes it before base64 reads it.
		for _, v := range []string{value, value + "\n"} {
			out = append(out, alphabet.EncodeToString([]byte(v)), strings.TrimRight(alphabet.EncodeToString([]byte(v)), "="))
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
	return out
}

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

// mask gives a text without its secrets; what may be the beginning of one comes
// back as rest, unless this is the end.
func (s *Set) mask(text []byte, end bool) (out, rest []byte) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	from := 0
	for i := 0; i < len(text); {
		found := 0
		for _, v := range s.values[text[i]] {
			left := text[i:]
			if !end && len(left) < len(v) && v[:len(left)] == string(left) {
				return append(out, text[from:i]...), slices.Clone(left)
			}
			if found == 0 && bytes.HasPrefix(left, []byte(v)) {
				found = len(v)
			}
		}
		if found == 0 {
			i++
			continue
		}
		out = append(append(out, text[from:i]...), Mask...)
		i += found
		from = i
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

// Next gives what is fit to be shown of all that has come so far. It holds back
// what may be the beginning of a secret.
func (t *Stream) Next(piece []byte) []byte {
	if t.set == nil {
		return piece
	}
	out, rest := t.set.mask(append(t.held, piece...), false)
	t.held = rest
	return out
}

// End gives what was held back.
func (t *Stream) End() []byte {
	if t.set == nil || len(t.held) == 0 {
		return nil
	}
	out, _ := t.set.mask(t.held, true)
	t.held = nil
	return out
}
