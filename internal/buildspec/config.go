package buildspec

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// config writes ecsbuild.yml.
func (c *converter) config(images []*outcome) string {
	var b strings.Builder
	b.WriteString("# Written by ecsbuild init. Every key: https://github.com/ecsbuild/ecsbuild/blob/main/docs/configuration.md\n")
	for _, o := range images {
		if isPublic(o.repository) != isPublic(images[0].repository) && !strings.HasPrefix(o.repository, "${") &&
			!strings.HasPrefix(images[0].repository, "${") {
			c.problem(o.at, "it goes to another registry than the first image; ecsbuild pushes to one registry in a run")
		}
	}
	refs := map[string]bool{}
	for _, o := range images {
		for _, t := range o.tags {
			ref := fmt.Sprint(o.destination, ":", t)
			if refs[ref] {
				c.problem(o.at, "another docker build goes to the same tag: "+out(o.repository+":"+t))
			}
			refs[ref] = true
		}
	}
	top := func(key string, of func(*outcome) string) {
		value := of(images[0])
		for _, o := range images {
			if of(o) != value {
				c.problem(o.at, fmt.Sprintf("it goes to another %s than the first image; ecsbuild pushes to one registry in a run", key))
			}
		}
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, quote(value))
		}
	}
	top("region", func(o *outcome) string { return o.region })
	top("account", func(o *outcome) string { return o.account })
	if c.hubPassword != "" && !c.hubByDefault() {
		user := out(c.hubUser)
		if v := variable(user); v != "" {
			user = "env:" + v
		}
		fmt.Fprintf(&b, "docker_hub:\n  username: %s\n  password: %s\n", quote(user), quote("env:"+c.hubPassword))
	}
	definitions := c.definitions(images)
	if definitions == "" && c.noDefinitions {
		definitions = "definitions: []\n"
	}
	b.WriteString("images:\n")
	for _, o := range images {
		c.image(&b, o, images)
	}
	b.WriteString(definitions)
	if gates := c.gates(images); len(gates) > 0 {
		b.WriteString("gates:\n")
		for _, g := range gates {
			for i, l := range yamlItem("  ", g) {
				if i > 0 || !strings.HasPrefix(l, "  - $") {
					b.WriteString(l + "\n")
					continue
				}
				b.WriteString("  - " + quote(g) + "\n")
			}
		}
	}
	return b.String()
}

var hubVariable = regexp.MustCompile(`^(DOCKER_|DOCKERHUB_|DOCKER_HUB_)(?:(USER|USERNAME|ID)|(PASSWORD|PASS|TOKEN))$`)

// hubByDefault says whether ecsbuild knows the account's variables by their names.
func (c *converter) hubByDefault() bool {
	user, password := hubVariable.FindStringSubmatch(variable(c.hubUser)), hubVariable.FindStringSubmatch(c.hubPassword)
	if _, ok := c.variables[c.hubPassword]; ok || c.isSet(variable(c.hubUser)) {
		return false // which the environment does not have
	}
	return user != nil && password != nil && user[2] != "" && password[3] != "" && user[1] == password[1]
}

// image writes one image, the keys in the order of docs/configuration.md.
func (c *converter) image(b *strings.Builder, o *outcome, images []*outcome) {
	begin := "  - "
	line := func(key, value string) {
		fmt.Fprintf(b, "%s%s: %s\n", begin, key, value)
		begin = "    "
	}
	text := func(key, value string) {
		if value != "" {
			line(key, quote(value))
		}
	}
	list := func(key string, values []string) {
		var quoted []string
		for _, v := range values {
			quoted = append(quoted, quote(v))
		}
		if len(quoted) > 0 {
			line(key, "["+strings.Join(quoted, ", ")+"]")
		}
	}
	switch len(o.containers) {
	case 0:
	case 1:
		text("container", o.containers[0])
	default:
		list("containers", o.containers)
	}
	text("repository", o.repository)
	list("tags", o.tags)
	if context := relative(o.context); context != "." {
		text("context", context)
	}
	if file, err := o.build.file(); err != nil {
		c.problem(o.at, err.Error())
	} else {
		text("dockerfile", file)
	}
	text("target", o.target)
	pairs(b, "args", o.args)
	pairs(b, "labels", o.labels)
	for _, key := range lists {
		values := o.lists[key]
		if key == "additional_contexts" {
			values = append(slices.Clone(values), c.links(o, images)...)
		}
		list(key, values)
	}
	for _, p := range o.texts {
		text(p.key, p.value)
	}
	for _, flag := range o.flags {
		line(flag, "true")
	}
}

// links are the additional_contexts that are other images of the run.
func (c *converter) links(o *outcome, images []*outcome) (out []string) {
	uses := map[string]int{}
	for _, other := range images {
		for _, name := range other.containers {
			uses[name]++
		}
	}
	for _, l := range o.build.links {
		base := l.base
		if base == nil {
			base = c.services[l.service]
		}
		i := slices.IndexFunc(images, func(other *outcome) bool { return other.build == base })
		if i < 0 {
			c.problem(o.at, "it builds on an image that is not pushed: "+l.context+l.service)
			continue
		}
		name := images[i].repository
		for _, container := range images[i].containers {
			if uses[container] == 1 {
				name = container
			}
		}
		out = append(out, l.context+"=service:"+name)
	}
	return out
}

// pairs writes a mapping. A key alone takes the environment's value.
func pairs(b *strings.Builder, key string, values []pair) {
	if len(values) == 0 {
		return
	}
	fmt.Fprintf(b, "    %s:\n", key)
	seen := map[string]bool{}
	for i := range values { // the last one of a name counts
		p := values[len(values)-1-i]
		if seen[p.key] {
			continue
		}
		seen[p.key] = true
		values[len(values)-len(seen)] = p
	}
	for _, p := range values[len(values)-len(seen):] {
		if p.fromEnv {
			fmt.Fprintf(b, "      %s:\n", quote(p.key))
			continue
		}
		fmt.Fprintf(b, "      %s: %s\n", quote(p.key), quote(p.value))
	}
}

// file is the Dockerfile as ecsbuild.yml has it, from its context; "" for the usual one.
func (b *build) file() (string, error) {
	if b.dockerfile == "" || isURL(b.context) {
		return b.dockerfile, nil
	}
	context, file := relative(b.context), relative(b.dockerfile)
	if file == path.Join(context, "Dockerfile") {
		return "", nil
	}
	if context == "." {
		return file, nil
	}
	if rest, ok := strings.CutPrefix(file, context+"/"); ok {
		return rest, nil
	}
	if !isFixed(context) || !isFixed(file) || strings.HasPrefix(context, "/") || strings.HasPrefix(file, "/") {
		return "", fmt.Errorf("where %s lies from %s is not known", out(file), out(context))
	}
	up := strings.Repeat("../", strings.Count(context, "/")+1)
	return path.Join(up, file), nil
}

// definitions names the containers of the images, and writes the section of the files where
// one with every container, in the order of the images, is not what the buildspec writes.
func (c *converter) definitions(images []*outcome) string {
	var kept []*file
	for i, f := range c.files {
		if slices.ContainsFunc(c.files[i+1:], func(later *file) bool { return later.path == f.path }) {
			c.problem(f.at, "it writes "+f.path+", which is written once more")
		}
		if f.at.why == "" && c.resolve(f, images) {
			kept = append(kept, f)
			f.at.replaced = true
		}
	}
	if len(kept) == 0 {
		return ""
	}
	uses := map[string]int{}
	for _, o := range images {
		for _, name := range o.containers {
			uses[name]++
		}
	}
	var b strings.Builder
	b.WriteString("definitions:\n")
	usual := len(kept) == 1 && kept[0].path == "imagedefinitions.json" && !kept[0].detail
	var order []string
	for _, o := range images {
		order = append(order, o.containers...)
	}
	for _, f := range kept {
		var names, also []string
		for _, e := range f.entries {
			switch {
			case e.image == nil:
				also = append(also, fmt.Sprintf("      %s: %s\n", quote(e.container), quote(e.uri)))
				usual = false
			case uses[e.container] > 1 || f.detail && !slices.Contains(e.image.containers, e.container):
				names = append(names, quote(e.container+"="+e.image.repository))
				usual = false
			default:
				names = append(names, quote(e.container))
			}
		}
		if len(names) != len(order) || !slices.EqualFunc(f.entries, order, func(e entry, name string) bool { return e.container == name }) {
			usual = false
		}
		fmt.Fprintf(&b, "  - file: %s\n", quote(f.path))
		if f.detail {
			b.WriteString("    format: image-detail\n")
		}
		fmt.Fprintf(&b, "    containers: [%s]\n", strings.Join(names, ", "))
		if len(also) > 0 {
			b.WriteString("    also:\n" + strings.Join(also, ""))
		}
	}
	if usual {
		return ""
	}
	return b.String()
}

// resolve finds the images of a file's entries. ok is false where none of them is pushed here:
// then the command that writes the file stays.
func (c *converter) resolve(f *file, images []*outcome) (ok bool) {
	for i := range f.entries {
		e := &f.entries[i]
		r := parseReference(e.uri)
		o := c.find(images, r)
		if o == nil || !slices.Contains(o.tags, r.tag) {
			continue
		}
		if o.deployed != "" && o.deployed != r.tag {
			c.problem(f.at, fmt.Sprintf("it names %s, and another file %s of the same image", out(r.tag), out(o.deployed)))
			return false
		}
		ok, e.image, o.deployed = true, o, r.tag
		o.tags = append([]string{r.tag}, slices.DeleteFunc(o.tags, func(t string) bool { return t == r.tag })...)
		if f.detail {
			if e.container = "image"; len(o.containers) > 0 {
				e.container = o.containers[0]
			}
		} else if !slices.Contains(o.containers, e.container) {
			o.containers = append(o.containers, e.container)
		}
	}
	return ok
}

// out is a template as ecsbuild.yml or a person reads it.
func out(t string) string {
	return strings.NewReplacer(sourceFolder, "${CODEBUILD_SRC_DIR}", callerAccount, "${AWS_ACCOUNT_ID}",
		callerRegion, "${AWS_DEFAULT_REGION}").Replace(t)
}

var plainWord = regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./-]*$`)

// quote is a text in YAML.
func quote(t string) string {
	t = out(t)
	switch strings.ToLower(t) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
	default:
		if plainWord.MatchString(t) {
			return t
		}
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(t) + `"`
}
