// Package format makes texts and figures fit for a log or a terminal.
package format

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ecsbuild/ecsbuild/internal/redact"
)

// Inert makes a line fit for the log of a job of GitHub Actions: whatever a
// build says, it is no command to the runner, which looks for one where a line
// begins, and, in its old form, anywhere.
func Inert(s string) string {
	if s = InertInline(s); strings.HasPrefix(strings.TrimSpace(s), "::") {
		return strings.Replace(s, "::", ": :", 1)
	}
	return s
}

// InertInline is Inert for what does not begin the line.
func InertInline(s string) string { return strings.ReplaceAll(Clean(s), "##[", "## [") }

// Clean takes out what would move a terminal's cursor: a carriage return
// keeps what follows it, escape sequences and control characters go. User
// information of URLs is masked.
func Clean(s string) string {
	s = redact.URL(strings.TrimRight(s, "\r\n"))
	if i := strings.LastIndexByte(s, '\r'); i >= 0 {
		s = s[i+1:]
	}
	if strings.IndexFunc(s, unicode.IsControl) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] == 0x1b {
			i = skipEscape(s, i)
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		// the second half of Latin-1 has controls as well
		if !unicode.IsControl(r) && (r != utf8.RuneError || n > 1) || r == '\t' {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// skipEscape returns the index after an ANSI escape sequence.
func skipEscape(s string, i int) int {
	i++
	if i >= len(s) {
		return i
	}
	switch s[i] {
	case '[':
		for i++; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
	case ']':
		for i++; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b {
				return min(i+2, len(s)) // and the backslash
			}
		}
	case '(', ')', '*', '+', '#', ' ', '%':
		return min(i+2, len(s)) // a character set follows
	default:
		return i + 1
	}
	return i
}

func Duration(d time.Duration) string {
	if d >= time.Minute {
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// Bytes writes a size for people, with decimal units as registries count.
func Bytes(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f /= 1000
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// Truncate takes what fits into so many columns.
func Truncate(s string, width int) string {
	if Width(s) <= width {
		return s
	}
	at := 0
	for i, r := range s {
		if at += column(r); at > width-1 {
			return s[:i] + "…"[:min(3, 3*width)]
		}
	}
	return s
}

// Width is how wide a terminal draws a text.
func Width(s string) (n int) {
	for _, r := range s {
		n += column(r)
	}
	return n
}

// wide are the characters that take two columns: East Asian ones and emoji.
// https://www.unicode.org/reports/tr11/
var wide = [][2]rune{{0x1100, 0x115f}, {0x231a, 0x231b}, {0x23e9, 0x23ec}, {0x23f0, 0x23f0}, {0x23f3, 0x23f3},
	{0x25fd, 0x25fe}, {0x2614, 0x2615}, {0x2648, 0x2653},
	{0x267f, 0x267f}, {0x2693, 0x2693}, {0x26a1, 0x26a1}, {0x26aa, 0x26ab}, {0x26bd, 0x26be}, {0x26c4, 0x26c5}, {0x26ce,
		0x26ce}, {0x26d4, 0x26d4}, {0x26ea, 0x26ea},
	{0x26f2, 0x26f3}, {0x26f5, 0x26f5}, {0x26fa, 0x26fa}, {0x26fd, 0x26fd}, {0x2705, 0x2705}, {0x270a, 0x270b}, {0x2728,
		0x2728}, {0x274c, 0x274c}, {0x274e, 0x274e},
	{0x2753, 0x2755}, {0x2757, 0x2757}, {0x2795, 0x2797}, {0x27b0, 0x27b0}, {0x27bf, 0x27bf}, {0x2b1b, 0x2b1c}, {0x2b50,
		0x2b50}, {0x2b55, 0x2b55}, {0x2e80, 0x303e},
	{0x3041, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300,
		0x1faff}, {0x20000, 0x3fffd}}

func column(r rune) int {
	i := sort.Search(len(wide), func(i int) bool { return r <= wide[i][1] })
	switch {
	case i < len(wide) && r >= wide[i][0]:
		return 2
	case unicode.Is(unicode.Mn, r) || r == '\u200d' || r == '\ufe0f':
		return 0
	}
	return 1
}

// JSON writes a value as JSON that people may read, without HTML's escapes; indent is ""
// for one line.
func JSON(w io.Writer, v any, indent string) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}
