package imagedef

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A Problem is something wrong in a definitions file, and where.
type Problem struct {
	Line, Column int // from 1; 0 where no place can be named
	What, Fix    string
}

// Validate checks a definitions file against the format that the ECS deploy
// action reads. It gives the definitions that could be read, and every
// problem. closestRegion, where not nil, names the region that a typo stood
// for, and "" for a region that is plausible.
func Validate(data []byte, closestRegion func(region string) (bad bool, closest string)) ([]Definition, []Problem) {
	v := &validator{data: data, region: closestRegion}
	if len(data) > MaxSize {
		v.add(0, fmt.Sprintf("the file has %d bytes, and the deploy action reads at most %d", len(data), MaxSize),
			"split the containers over several files")
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		v.add(0, "the file begins with a byte order mark", "save it as UTF-8 without one")
		data = data[3:]
		v.skip = 3
	}
	if !utf8.Valid(data) {
		v.add(int64(invalidAt(data)), "this is not UTF-8", "save the file as UTF-8")
		return nil, v.problems
	}
	return v.read(data), v.problems
}

type validator struct {
	data     []byte
	skip     int64
	problems []Problem
	region   func(string) (bool, string)
}

// add notes a problem at an offset of the data.
func (v *validator) add(offset int64, what, fix string) {
	before := v.data[:min(int(offset+v.skip), len(v.data))]
	v.problems = append(v.problems, Problem{
		Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) +
			1, What: what, Fix: fix,
	})
}

func invalidAt(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(data)
}

// read walks the tokens, so that every place is known.
func (v *validator) read(data []byte) (defs []Definition) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var raw []json.RawMessage
	tok, err := dec.Token()
	if err != nil {
		v.syntax(err, data)
		return nil
	}
	if d, ok := tok.(json.Delim); !ok || d != '[' {
		fix := `write [{"name":"CONTAINER","imageUri":"IMAGE"}]`
		if ok && d == '{' && bytes.Contains(data, []byte(`"ImageURI"`)) {
			fix = "this is imageDetail.json, which a blue/green deployment reads; for the ECS deploy action " + fix
		}
		v.add(0, "the file is not a list", fix)
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		start := dec.InputOffset()
		start += int64(len(data[start:]) - len(bytes.TrimLeft(data[start:], ", \t\r\n")))
		var entry json.RawMessage
		if err := dec.Decode(&entry); err != nil {
			v.syntax(err, data)
			return defs
		}
		raw = append(raw, entry)
		if d, ok := v.entry(start, entry); ok {
			if seen[d.Name] {
				v.add(start, fmt.Sprintf("duplicate container %q", d.Name), "keep one of them")
			}
			seen[d.Name] = true
			defs = append(defs, d)
		}
	}
	if _, err := dec.Token(); err != nil {
		v.syntax(err, data)
		return defs
	}
	if rest := data[dec.InputOffset():]; len(bytes.TrimSpace(rest)) > 0 {
		v.add(dec.InputOffset(), "something follows the list", "take it out")
	}
	if len(raw) == 0 {
		v.add(0, "the list is empty", "name at least one container")
	}
	return defs
}

func (v *validator) syntax(err error, data []byte) {
	offset := int64(len(data))
	var s *json.SyntaxError
	if errors.As(err, &s) {
		offset = max(0, s.Offset-1)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the file ends too early")
	}
	v.add(offset, "this is not JSON: "+err.Error(), "")
}

func (v *validator) entry(start int64, raw json.RawMessage) (d Definition, ok bool) {
	var fields map[string]any
	if json.Unmarshal(raw, &fields) != nil {
		v.add(start, "an entry is not an object", `write {"name":"CONTAINER","imageUri":"IMAGE"}`)
		return d, false
	}
	text := func(key string, wrong ...string) string {
		value, there := fields[key]
		if !there {
			fix := "add it"
			for _, w := range wrong {
				if _, ok := fields[w]; ok {
					fix = fmt.Sprintf("the key is spelled %s, not %s", key, w)
				}
			}
			v.add(start, "an entry has no "+key, fix)
			return ""
		}
		s, isText := value.(string)
		if !isText || s == "" {
			v.add(start, key+" must be a text that is not empty", "")
		}
		return s
	}
	for _, key := range twice(raw) {
		v.add(start, fmt.Sprintf("an entry has %q twice", key), "keep one of them")
	}
	d.Name = text("name", "Name", "containerName", "container")
	if d.Name != "" && !containerPattern.MatchString(d.Name) {
		v.add(start, fmt.Sprintf("%q is not a container name", d.Name), "ECS takes up to 255 letters, digits, - and _")
	}
	d.ImageURI = text("imageUri", "imageURI", "ImageURI", "ImageUri", "image", "imageuri")
	if d.ImageURI != "" {
		v.uri(start, d.ImageURI)
	}
	return d, d.Name != "" && d.ImageURI != ""
}

// twice finds keys that an object has more than once.
func twice(object json.RawMessage) (keys []string) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if _, err := dec.Token(); err != nil {
		return nil
	}
	seen := map[string]int{}
	for dec.More() {
		key, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return keys
		}
		name, _ := key.(string)
		if seen[name]++; seen[name] == 2 {
			keys = append(keys, name)
		}
	}
	return keys
}

var (
	containerPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

	uriPattern    = regexp.MustCompile(`^(?:([A-Za-z0-9.-]+(?::[0-9]+)?)/)?((?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*/)*[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$`)
	ecrURIPattern = regexp.MustCompile(`^([0-9]+)\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.`)
)

func (v *validator) uri(start int64, uri string) {
	m := uriPattern.FindStringSubmatch(uri)
	if m == nil {
		fix := "write REPOSITORY:TAG or REPOSITORY@sha256:…"
		switch {
		case strings.Contains(uri, "://"):
			fix = "leave the scheme out"
		case strings.HasSuffix(uri, ":"):
			fix = "the tag is empty: a variable may have been unset"
		case strings.Contains(uri, "@"):
			fix = "a digest is sha256: and 64 hexadecimal digits"
		case strings.ContainsAny(uri, " \t\n"):
			fix = "take the white space out"
		}
		v.add(start, fmt.Sprintf("%q is not an image", uri), fix)
		return
	}
	if e := ecrURIPattern.FindStringSubmatch(uri); e != nil {
		if len(e[1]) != 12 {
			v.add(start, fmt.Sprintf("%s in %q is not an AWS account", e[1], uri), "an account ID has 12 digits")
		}
		if v.region != nil {
			if bad, closest := v.region(e[2]); bad {
				fix := ""
				if closest != "" {
					fix = "did you mean " + closest + "?"
				}
				v.add(start, fmt.Sprintf("%q in %q is not an AWS region", e[2], uri), fix)
			}
		}
	}
}
