// Package fault is an error for the user: what is wrong, why, and what to do about it.
package fault

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// An Error is something wrong in the configuration: what, why, and what to do.
// All of them end a run with exit code 2.
type Error struct {
	Place string // "ecsbuild.yml:3:5", or "" where there is no line to name
	File  string // that Place is in, absolute; "" for none
	What  string
	Why   string
	Fix   string
}

func (e *Error) Error() string {
	s := e.What
	if e.Place != "" {
		s = e.Place + ": " + s
	}
	if e.Why != "" {
		s += ": " + e.Why
	}
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// Errors are several at once, so that nobody meets them one run at a time.
type Errors []*Error

func (e Errors) Error() string {
	var lines []string
	for _, err := range e {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single errors to errors.As.
func (e Errors) Unwrap() []error {
	var out []error
	for _, err := range e {
		out = append(out, err)
	}
	return out
}

func (e Errors) OrNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// SetFile says which file the places in it belong to.
func SetFile(err error, path string) {
	var all Errors
	var one *Error
	switch {
	case path == "":
	case errors.As(err, &all):
		for _, e := range all {
			SetFile(e, path)
		}
	case errors.As(err, &one) && strings.HasPrefix(one.Place, filepath.Base(path)):
		one.File = path
	}
}

// Closest returns the candidate that a typo most likely stood for, or "".
func Closest(word string, candidates []string) string {
	best, limit := "", 1+len(word)/4
	for _, c := range candidates {
		if d := Distance(strings.ToLower(word), strings.ToLower(c)); d <= limit && c != word {
			best, limit = c, d-1
		}
	}
	return best
}

func DidYouMean(word string, candidates []string) string {
	if c := Closest(word, candidates); c != "" {
		return fmt.Sprintf("did you mean %q? ", c)
	}
	return ""
}

// Distance is the Damerau-Levenshtein distance (neighbours swapped count once).
func Distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
