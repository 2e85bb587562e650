package format

import (
	"testing"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                    "plain",
		"\x1b[31mred\x1b[0m":       "red",
		"10%\r50%\r100%":           "100%",
		"line\r\n":                 "line",
		"a\x07b\x00c\x08":          "abc",
		"tab\tstays":               "tab\tstays",
		"\x1b]0;title\x07text":     "text",
		"é ü 日本":                   "é ü 日本",
		"c1 \u009b2J\u009d0;t\x9b": "c1 2J0;t",
		"\x1b(Bset\x1b]0;t\x1b\\":  "set",
		"half an escape \x1b":      "half an escape ",
		"half an escape \x1b[12;":  "half an escape ",
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1500000: "1.5 MB", 4 << 30: "4.3 GB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
}

// TestInert has lines that would command the runner of GitHub Actions.
func TestInert(t *testing.T) {
	for text, want := range map[string]string{
		"plain :: text":         "plain :: text",
		"::error::x":            ": :error::x",
		"  ::add-mask::x":       "  : :add-mask::x",
		"x ##[add-mask]y":       "x ## [add-mask]y",
		"a\r::stop-commands::b": ": :stop-commands::b",
		"\x1b[31m::error::x":    ": :error::x",
	} {
		if got := Inert(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// TestCut counts columns and not bytes or characters.
func TestCut(t *testing.T) {
	for _, tt := range []struct {
		text  string
		width int
		want  string
	}{
		{"plain", 5, "plain"}, {"plain", 4, "pla…"}, {"plain", 1, "…"}, {"plain", 0, ""}, {"", 0, ""},
		{"日本語", 6, "日本語"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"}, {"a日本", 3, "a…"},
		{"✓ ▸ │ …", 7, "✓ ▸ │ …"}, {"e\u0301te\u0301", 3, "e\u0301te\u0301"}, {"🚀x", 3, "🚀x"}, {"🚀x", 2, "…"}, {"✅⚡⏳", 4,
			"✅…"}, {"☐x", 2, "☐x"},
	} {
		if got := Truncate(tt.text, tt.width); got != tt.want || Width(got) > tt.width {
			t.Errorf("%q in %d columns: %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}
