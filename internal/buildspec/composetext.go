package buildspec

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// composePairs reads a mapping of a Compose file, or a list of "key=value".
func (c *converter) composePairs(cmd *command, v any) (out []pair, _ error) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if v[key] == nil {
				out = append(out, c.fromEnvironment(pair{key: key, fromEnv: true}))
				continue
			}
			out = append(out, pair{key: key, value: c.composeText(cmd, fmt.Sprint(v[key]))})
		}
	case []any:
		for _, one := range v {
			name, text, ok := strings.Cut(fmt.Sprint(one), "=")
			out = append(out, c.fromEnvironment(pair{name, c.composeText(cmd, text), !ok}))
		}
	default:
		return nil, errors.New("it is neither a mapping nor a list")
	}
	return out, nil
}

var composeVariable = regexp.MustCompile(
	`\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?+])([^${}]*))?\}|\$([A-Za-z_][A-Za-z0-9_]*)`)

// composeText is a text of a Compose file, whose variables come from the environment: what the
// buildspec sets, and what is there already.
func (c *converter) composeText(cmd *command, text string) string {
	return composeVariable.ReplaceAllStringFunc(text, func(whole string) string {
		if whole == "$$" {
			return whole
		}
		m := composeVariable.FindStringSubmatch(whole)
		name, operator, word := m[1]+m[4], m[2], m[3]
		cmd.uses[name] = true
		v, ok := c.variables[name]
		alias := variable(v.value)
		switch {
		case !ok || !v.known:
			if operator == "" {
				return "${" + name + "}"
			}
			return whole
		case operator == "+":
			return word
		case !strings.HasPrefix(operator, ":") || notEmpty(v.value) && operator != ":+":
			return v.value
		case notEmpty(v.value):
			return word
		case v.value == "":
			return map[string]string{":-": word}[operator]
		case alias != "":
			return "${" + alias + operator + word + "}"
		}
		c.problem(cmd, fmt.Sprintf("whether %s is empty is known only when it runs", name))
		return ""
	})
}
