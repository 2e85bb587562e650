package buildspec

import (
	"fmt"
	"regexp"
	"strings"
)

// edit writes the file anew: without what is replaced, with what could not be translated as
// comments, and with ecsbuild in its place.
func (d *document) edit(c *converter) string {
	byItem := map[*item][]*command{}
	for _, cmd := range c.commands {
		byItem[cmd.item] = append(byItem[cmd.item], cmd)
	}
	replaced := map[int][]string{} // by the index of a first line
	gone := map[int]bool{}         // lines
	left := map[string]int{}       // entries of a block
	for _, it := range d.items {
		var out []string
		pad := strings.Repeat(" ", it.dash)
		cmds := byItem[it]
		changed := false
		for _, cmd := range cmds {
			changed = changed || cmd.replaced || cmd.gate || cmd.why != "" || len(cmd.exports) > 0 || cmd == c.at
		}
		if !changed {
			left[it.phase]++
			continue
		}
		c.noteBlock(it, cmds)
		var kept []string // of a && b
		for n, cmd := range cmds {
			switch {
			case cmd.why != "":
				out = append(out, pad+"# ecsbuild init could not translate this: "+cmd.why)
				lines := strings.Split(cmd.text, "\n")
				if len(cmds) == 1 {
					lines = d.lines[it.from:it.to]
				}
				for _, l := range lines {
					out = append(out, pad+"# "+strings.TrimPrefix(l, pad))
				}
			case cmd.replaced || cmd.gate:
			case cmd.sets != "" && len(cmd.exports) > 0:
				out = append(out, yamlItem(pad, cmd.text)...) // export V=$(…) would not fail where the command does
				out = append(out, yamlItem(pad, "export "+cmd.sets)...)
			case len(cmds) == 1:
				out = append(out, d.lines[it.from:it.to]...)
			default:
				kept = append(kept, cmd.text)
			}
			ends := n+1 == len(cmds) || cmds[n+1].group != cmd.group || cmd == c.at
			if ends && len(kept) > 0 {
				out = append(out, yamlItem(pad, strings.Join(kept, " && "))...)
				kept = nil
			}
			if cmd.sets == "" && len(cmd.exports) > 0 && cmd.why == "" {
				out = append(out, yamlItem(pad, "export "+strings.Join(cmd.exports, " "))...)
			}
			if cmd == c.at {
				for _, l := range c.run() {
					out = append(out, yamlItem(pad, l)...)
				}
			}
		}
		for i := it.from; i < it.to; i++ {
			gone[i] = true
		}
		from := it.from
		for from > d.first && strings.HasPrefix(strings.TrimSpace(d.lines[from-1]), "#") && len(out) == 0 {
			from-- // what was said of it
			gone[from] = true
		}
		replaced[it.from] = out
		for _, l := range out {
			if !strings.HasPrefix(strings.TrimSpace(l), "#") {
				left[it.phase]++
			}
		}
	}
	for _, b := range d.blocks {
		if left[b.phase] == 0 {
			gone[b.key] = true
			if b.phaseKey >= 0 {
				gone[b.phaseKey] = true
			}
		}
	}
	var out []string
	for i, l := range d.lines {
		if lines, ok := replaced[i]; ok {
			out = append(out, lines...)
		}
		if !gone[i] {
			out = append(out, l)
		}
	}
	return strings.Join(out, d.newline)
}

// notText are plain scalars of YAML that are no texts.
var notText = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|y|n|null|[-+0-9._]+)$`)

// noteBlock tells of a command that fails in a block, which goes on with the next one there.
func (c *converter) noteBlock(it *item, cmds []*command) {
	if !it.block || strings.Contains(it.text, "set -e") {
		return
	}
	for i, cmd := range cmds {
		if i+1 < len(cmds) && cmd.stays() && cmd.why == "" && !cmd.harmless() && cmds[i+1].group != cmd.group {
			c.notes = append(c.notes, fmt.Sprintf("line %d: %s is on a line of its own now, and ends the phase where it fails; "+
				"in a block the shell went on", cmd.line, shorten(cmd.text)))
		}
	}
}

// yamlItem is an entry of a list of commands.
func yamlItem(pad, text string) []string {
	plain := !notText.MatchString(text) && !strings.ContainsAny(text[:1], "!&*-?[]{},#|>@`\"'%:") &&
		!strings.Contains(text, ": ") &&
		!strings.Contains(text, " #") && !strings.HasSuffix(text, ":") && !strings.Contains(text, "\n")
	if plain {
		return []string{pad + "- " + text}
	}
	if !strings.Contains(text, "\n") {
		return []string{pad + "- '" + strings.ReplaceAll(text, "'", "''") + "'"}
	}
	out := []string{pad + "- |"}
	for _, l := range strings.Split(text, "\n") {
		out = append(out, pad+"  "+l)
	}
	return out
}
