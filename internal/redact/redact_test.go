package redact

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestString(t *testing.T) {
	var s Set
	for _, v := range []string{"hunter2-token", "abc",
		"-----BEGIN KEY-----\nMIIEvQIBADANBg\nxyz\nq2w3e4r5t6y7\n-----END KEY-----\n", `pa"ss/wo+rd`, "hunter2", "",
		"abcd1234", "1234wxyz", "admin\npw12345", `{"http-basic": {"repo.example": {"username": "me", "password": "innerPassw0rd!"}}}`, "it's a p&ss", "<it's>&more"} {
		s.Add(v)
	}
	b64 := base64.StdEncoding.EncodeToString
	quoted, _ := json.Marshal(`x pa"ss/wo+rd`)
	for in, want := range map[string]string{
		"token=hunter2-token.":         "token=[redacted].",
		"hunter2 and hunter2-x":        "[redacted] and [redacted]-x",
		"abc stays, it is short":       "abc stays, it is short",
		"MIIEvQIBADANBg":               "[redacted]",
		"  q2w3e4r5t6y7 short":         "  [redacted] short",
		b64([]byte("hunter2-token")):   "[redacted]",
		b64([]byte("hunter2-token\n")): "[redacted]",
		string(quoted):                 `"x [redacted]"`,
		"?p=pa%22ss%2Fwo%2Brd&x":       "?p=[redacted]&x",
		"":                             "",
	} {
		if got := s.String(in); got != want {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
	}
	// Inside of other bytes no character that depends on the secret alone is left.
	for shift := range 6 {
		text := b64([]byte(strings.Repeat("u", shift) + ":hunter2-token:and more"))
		if got := s.String(text); !strings.Contains(got, Mask) || len(got)-len(Mask) > len(text)-16 {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// TestWrapped masks base64 that is broken into lines.
func TestWrapped(t *testing.T) {
	var s Set
	value := strings.Repeat("0123456789abcdef", 12)
	s.Add(value)
	for _, width := range []int{64, 76} {
		encoded := base64.StdEncoding.EncodeToString([]byte(value))
		for len(encoded) > 0 {
			n := min(width, len(encoded))
			if got := s.String(encoded[:n]); n >= minInside && got != Mask {
				t.Errorf("%d: %q is left of %q", width, got, encoded[:n])
			}
			encoded = encoded[n:]
		}
	}
}

func TestAddURL(t *testing.T) {
	for text, leaks := range map[string]string{
		"https://x:to/k3nSLASH@127.0.0.1:1/shop.git#main": "k3nSLASH",
		"https://x:tok3nHASH?a@host/shop.git":             "tok3nHASH",
		"https://x:to k3nSPACE@host/shop.git":             "k3nSPACE",
		`https://x:a"tok3nQUOTE@host/shop.git`:            "tok3nQUOTE",
		"https://host/s.tar.gz?token=QUERYTOK3N":          "QUERYTOK3N",
	} {
		var s Set
		s.AddURL(text)
		if got := s.String("cannot fetch " + text); strings.Contains(got, leaks) {
			t.Errorf("%q", got)
		}
	}
	var s Set
	s.AddURL("https://host:8080/a@b/c")
	s.AddURL("ssh://git@host/a")
	if got := s.String("https://host:8080/a@b/c ssh://git@host/a"); got != "https://host:8080/a@b/c ssh://git@host/a" {
		t.Error(got)
	}
}

func TestURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://user:tok@github.com/a/b#main":      "https://[redacted]@github.com/a/b#main",
		"clone https://ghp_x@github.com/a, then go": "clone https://[redacted]@github.com/a, then go",
		"https://u:p@ss@host/x?mail=a@b":            "https://[redacted]@host/x?mail=a@b",
		"ssh://git@github.com/a":                    "ssh://git@github.com/a",
		"ssh://git:secret@github.com/a":             "ssh://[redacted]@github.com/a",
		"git@github.com:a/b":                        "git@github.com:a/b",
		"docker-image://alpine@sha256:1":            "docker-image://alpine@sha256:1",
		"http://proxy.example:3128 and me@host":     "http://proxy.example:3128 and me@host",
		`{"u":"http://a:b@proxy:3128","v":"x@y"}`:   `{"u":"http://[redacted]@proxy:3128","v":"x@y"}`,
	} {
		if got := URL(in); got != want {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
	}
}

// TestStream cuts a text at every place, and once at two.
func TestStream(t *testing.T) {
	var s Set
	for _, v := range []string{"aabaac", "baacaX", "secret", "secretary"} {
		s.Add(v)
	}
	for _, text := range []string{"x aabaabaac y", "aabaac", "secret", "secretar secretary secret", "the secre",
		"baabaacaX", "aabaa"} {
		want := s.String(text)
		for i := range len(text) + 1 {
			for j := i; j <= len(text); j++ {
				st := s.Stream()
				got := fmt.Sprintf("%s%s%s%s", st.Next([]byte(text[:i])), st.Next([]byte(text[i:j])), st.Next([]byte(text[j:])),
					st.End())
				if got != want {
					t.Fatalf("%q cut at %d and %d: %q, not %q", text, i, j, got, want)
				}
			}
		}
	}
	var none *Set
	if got := none.Stream().Next([]byte("text")); string(got) != "text" {
		t.Errorf("%q", got)
	}
}
