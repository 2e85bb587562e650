package buildspec

import (
	"encoding/json"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// A file is a definitions file that the buildspec writes.
type file struct {
	at      *command
	path    string // from the folder of the sources
	detail  bool   // imageDetail.json
	entries []entry
}

// An entry is a container and the image that it runs, both templates.
type entry struct {
	container, uri string
	image          *outcome // nil for one that is not built here
}

// write follows printf '[{"name":"%s","imageUri":"%s"}]' … > FILE, echo '…' > FILE, and
// cat > FILE <<EOF.
func (c *converter) write(cmd *command, stmt *syntax.Stmt, words []string) {
	var target, document *syntax.Word
	for _, r := range stmt.Redirs {
		switch {
		case r.Op == syntax.RdrOut && r.N == nil && target == nil:
			target = r.Word
		case (r.Op == syntax.Hdoc || r.Op == syntax.DashHdoc) && words[0] == "cat" && len(words) == 1:
			document = r.Hdoc
		default:
			return
		}
	}
	if target == nil || (words[0] == "cat") != (document != nil) {
		return
	}
	to, err := c.word(target)
	if err != nil || c.lost {
		return
	}
	text := strings.Join(words[1:], " ")
	switch {
	case document != nil:
		if text, err = c.parts(document.Parts, true); err != nil {
			return
		}
	case words[0] == "printf" && len(words) > 1:
		var ok bool
		if text, ok = format(words[1], words[2:]); !ok {
			return
		}
	}
	f := &file{at: cmd, path: relative(c.path(to))}
	var list []struct {
		Name     string `json:"name"`
		ImageURI string `json:"imageUri"`
	}
	var detail struct{ ImageURI string }
	strict := func(into any) bool { // what ecsbuild does not write stays with the command
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		return d.Decode(into) == nil && strings.TrimSpace(text[d.InputOffset():]) == ""
	}
	switch {
	case strict(&list) && len(list) > 0:
		for _, e := range list {
			if e.Name == "" || e.ImageURI == "" {
				return
			}
			f.entries = append(f.entries, entry{container: e.Name, uri: e.ImageURI})
		}
	case strict(&detail) && detail.ImageURI != "" && strings.Contains(text, `"ImageURI"`):
		f.detail, f.entries = true, []entry{{uri: detail.ImageURI}}
	default:
		return
	}
	c.files = append(c.files, f)
}

// format is printf of the shell, for %s and %%.
func format(f string, args []string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(f); i++ {
		switch {
		case strings.HasPrefix(f[i:], "%%"):
			b.WriteByte('%')
			i++
		case strings.HasPrefix(f[i:], "%s"):
			if len(args) > 0 {
				b.WriteString(args[0])
				args = args[1:]
			}
			i++
		case strings.HasPrefix(f[i:], `\n`):
			b.WriteByte('\n')
			i++
		case f[i] == '%' || f[i] == '\\' && !strings.HasPrefix(f[i:], `\"`):
			return "", false
		default:
			b.WriteByte(f[i])
		}
	}
	return b.String(), len(args) == 0
}
