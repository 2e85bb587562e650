package buildspec

import (
	"fmt"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A build is what one docker build makes.
type build struct {
	at         *command
	context    string // a path below the folder of the sources, or a URL
	dockerfile string // the same; "" for the usual one
	target     string
	args       []pair
	labels     []pair
	lists      map[string][]string // other keys of ecsbuild.yml that are lists
	flags      []string            // other keys that are true
	texts      []pair              // other keys that are texts

	names  []reference // that it has here
	pushed []reference // in their order
	users  []*command  // that name it otherwise, between build and push
	links  []link      // to the images that it is built on
}

// A link is an image of the run that another one is built on.
type link struct {
	context string // as the Dockerfile names it
	base    *build // nil for a service
	service string // of a Compose file
}

type pair struct {
	key, value string
	fromEnv    bool // the key alone: its value is the environment's
}

// fromEnvironment gives an argument without a value the one that its variable has at this place.
func (c *converter) fromEnvironment(p pair) pair {
	v, set := c.variables[p.key]
	if !p.fromEnv || !set {
		return p
	}
	if p.fromEnv, p.value = false, "${"+p.key+"}"; v.known {
		p.value = v.value
	} else {
		v.needed = true
		c.variables[p.key] = v
	}
	return p
}

// buildFlags are the flags of docker build that take a value, and what becomes of it: a key
// of ecsbuild.yml, or "" for nothing.
var buildFlags = map[string]string{
	"--add-host": "extra_hosts", "--cache-from": "cache_from", "--cache-to": "cache_to", "--network": "network",
	"--platform": "platforms", "--shm-size": "shm_size", "--ssh": "ssh", "--build-context": "additional_contexts",
	"--progress": "", "--cpu-period": "", "--cpu-quota": "", "--cpu-shares": "", "-c": "", "--cpuset-cpus": "",
	"--cpuset-mems": "", "-m": "", "--memory": "", "--memory-swap": "", "--provenance": "", "--sbom": "",
}

// lists are the keys above whose values are lists.
var lists = []string{"extra_hosts", "cache_from", "cache_to", "platforms", "ssh", "additional_contexts"}

// switches are the flags of docker build that take none.
var switches = map[string]string{"--no-cache": "no_cache", "--pull": "pull", "-q": "", "--quiet": "", "--rm": "",
	"--force-rm": "", "--compress": "", "--push": "", "--load": "", "-D": ""}

// parseBuild reads the arguments of docker build.
func (c *converter) parseBuild(cmd *command, args []string) (b *build, push bool, err error) {
	b = &build{at: cmd, lists: map[string][]string{}}
	file, where := "", ""
	for i := 0; i < len(args); i++ {
		flag, value, hasValue := args[i], "", false
		if strings.HasPrefix(flag, "--") {
			flag, value, hasValue = strings.Cut(flag, "=")
		} else if len(flag) > 2 && flag[0] == '-' && strings.ContainsAny(flag[1:2], "ftm") {
			flag, value, hasValue = flag[:2], strings.TrimPrefix(flag[2:], "="), true
		}
		if !strings.HasPrefix(flag, "-") || flag == "-" {
			if where != "" {
				return nil, false, fmt.Errorf("it has two contexts, %s and %s", where, flag)
			}
			where = flag
			continue
		}
		if key, ok := switches[flag]; ok {
			if on := !hasValue || value == "true"; on && key != "" {
				b.flags = append(b.flags, key)
			}
			push = push || flag == "--push" && (!hasValue || value == "true")
			continue
		}
		if !hasValue {
			if i++; i == len(args) {
				return nil, false, fmt.Errorf("its flag %s has no value", flag)
			}
			value = args[i]
		}
		key, known := buildFlags[flag]
		switch {
		case flag == "--builder":
			c.notes = append(c.notes, fmt.Sprintf("line %d: --builder %s is left out, and the engine of the environment builds: "+
				"builder in ecsbuild.yml takes buildx:NAME, or the address of a buildkitd", cmd.line, value))
		case flag == "-t" || flag == "--tag":
			b.names = append(b.names, parseReference(value))
		case flag == "-f" || flag == "--file":
			file = value
		case flag == "--target":
			b.target = value
		case flag == "--build-arg" || flag == "--label":
			name, text, ok := strings.Cut(value, "=")
			p := pair{name, text, !ok}
			if !isFixed(name) {
				return nil, false, fmt.Errorf("the name of a %s is known only when it runs", strings.TrimPrefix(flag, "--"))
			}
			if flag == "--build-arg" {
				p = c.fromEnvironment(p)
			}
			if flag == "--label" {
				b.labels = append(b.labels, p)
			} else {
				b.args = append(b.args, p)
			}
		case !known:
			return nil, false, fmt.Errorf("docker build's flag %s has no key in ecsbuild.yml", flag)
		case (flag == "--provenance" || flag == "--sbom") && value != "false":
			c.notes = append(c.notes, fmt.Sprintf("line %d: %s is left out: ecsbuild pushes no attestations", cmd.line, flag))
		case key == "":
		case key == "additional_contexts":
			name, folder, ok := strings.Cut(value, "=")
			if ok && !isURL(folder) {
				value = name + "=" + relative(c.path(folder))
			}
			b.lists[key] = append(b.lists[key], value)
		case (key == "cache_from" || key == "cache_to") && strings.Contains(value, "type=local") && c.folder != sourceFolder:
			return nil, false, fmt.Errorf("its %s is a folder below another one than that of the sources", flag)
		case slices.Contains(lists, key):
			for _, v := range strings.Split(value, ",") {
				if key == "cache_from" || key == "cache_to" || key == "ssh" {
					v = value
				}
				b.lists[key] = append(b.lists[key], v)
				if v == value {
					break
				}
			}
		default:
			b.texts = append(b.texts, pair{key: key, value: value})
		}
	}
	if where == "" {
		return nil, false, fmt.Errorf("it names no context")
	}
	if where == "-" || file == "-" {
		return nil, false, fmt.Errorf("it reads from standard input")
	}
	if c.lost {
		return nil, false, fmt.Errorf("the folder where it runs is not known")
	}
	if b.context = where; !isURL(where) {
		b.context = c.path(where)
	}
	if file != "" {
		b.dockerfile = c.path(file)
		if isURL(where) {
			b.dockerfile = file
		}
	}
	return b, push, nil
}

func isURL(t string) bool {
	return strings.Contains(t, "://") || strings.HasPrefix(t, "git@") || strings.HasPrefix(t, "github.com/")
}

// docker follows one of docker's commands.
func (c *converter) docker(cmd *command, words []string) {
	for len(words) > 1 && (words[0] == "image" || words[0] == "buildx") {
		words = words[1:] // docker image push is docker push
	}
	if to := outputOf(cmd); to != "" && slices.Contains([]string{"build", "push"}, words[0]) {
		c.notes = append(c.notes, fmt.Sprintf("line %d: what docker prints is not written to %s any more", cmd.line, to))
	}
	switch words[0] {
	case "build":
		c.dockerBuild(cmd, words[1:])
	case "tag":
		if len(words) == 3 {
			c.tag(cmd, parseReference(words[1]), parseReference(words[2]))
			return
		}
	case "push":
		c.push(cmd, words[1:])
	case "login":
		c.login(cmd, words[1:])
	case "commit", "load", "import":
		c.problem(cmd, "it makes an image in another way than docker build")
	case "pull":
		if len(words) == 2 {
			c.pulls = append(c.pulls, pull{cmd, parseReference(words[1])})
		}
	case "compose":
		c.compose(cmd, words[1:])
	}
}

// outputOf is the file that takes the output of a command, "" for none.
func outputOf(cmd *command) (file string) {
	syntax.Walk(cmd.stmt, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Redirect:
			if to := n.Word.Lit(); n.Op != syntax.DplOut && n.Op != syntax.RdrIn && to != "/dev/null" && n.Hdoc == nil {
				file = source(n.Word)
			}
		case *syntax.CallExpr:
			if len(n.Args) > 1 && n.Args[0].Lit() == "tee" {
				file = source(n.Args[len(n.Args)-1])
			}
		}
		return true
	})
	return file
}

func (c *converter) dockerBuild(cmd *command, args []string) {
	b, push, err := c.parseBuild(cmd, args)
	if err != nil {
		c.problem(cmd, err.Error())
		return
	}
	c.builds = append(c.builds, b)
	for _, n := range b.names {
		c.local[n.String()] = b
	}
	cmd.build = b
	if !push {
		return
	}
	if len(b.names) == 0 {
		c.problem(cmd, "it pushes an image without a name")
	}
	for _, n := range b.names {
		if _, ok := n.destination(c.isSet); !ok {
			c.problem(cmd, "it goes to another registry than ECR")
			return
		}
	}
	b.pushed, cmd.pushes = append(b.pushed, b.names...), true
}

func (c *converter) tag(cmd *command, from, to reference) {
	b := c.local[from.String()]
	if b == nil { // of an image that is not built here
		if c.local[to.String()] != nil {
			c.problem(cmd, "it gives the name of an image that is built here to another one")
		}
		c.tagged, c.foreign = append(c.tagged, from), append(c.foreign, to)
		return
	}
	cmd.build = b
	b.names = append(b.names, to)
	c.local[to.String()] = b
}

func (c *converter) push(cmd *command, args []string) {
	all := false
	var names []string
	for _, a := range args {
		switch {
		case a == "-a" || a == "--all-tags":
			all = true
		case !strings.HasPrefix(a, "-"):
			names = append(names, a)
		}
	}
	if len(names) != 1 {
		c.problem(cmd, "it does not name one image")
		return
	}
	r := parseReference(names[0])
	pushed := []reference{r}
	if all {
		pushed = nil
		if slices.ContainsFunc(c.foreign, func(f reference) bool { return f.name == r.name }) {
			c.problem(cmd, "it pushes a tag of an image that is not built here")
		}
		for _, b := range c.builds {
			for _, n := range b.names {
				if n.name == r.name {
					pushed = append(pushed, n)
				}
			}
		}
	}
	for _, p := range pushed {
		b := c.local[p.String()]
		if b == nil {
			b = c.latest(p)
		}
		if b == nil {
			c.problem(cmd, c.whyUnknown(p))
			return
		}
		if _, ok := p.destination(c.isSet); !ok || c.isHub(p) {
			c.problem(cmd, "it goes to another registry than ECR")
			return
		}
		b.pushed, cmd.build = append(b.pushed, p), b
		cmd.pushes = true
	}
}

// isHub says whether an image goes to the account of Docker Hub that the buildspec logs in to.
func (c *converter) isHub(r reference) bool {
	user, _, ok := cutOutside(r.name, '/', false)
	return ok && user == c.hubUser && user != ""
}

// latest finds the image that a push names by a variable from outside: docker tag without a
// tag has named it latest, so that only latest can be pushed.
func (c *converter) latest(r reference) *build {
	name := variable(r.tag)
	b := c.local[reference{r.name, "latest"}.String()]
	if _, set := c.variables[name]; name == "" || set || b == nil {
		return nil
	}
	c.notes = append(c.notes, fmt.Sprintf("docker tag gave %s the tag latest, and docker push takes %s: "+
		"that must be latest, or the buildspec has never worked", out(r.name), name))
	return b
}

// login leaves out what ecsbuild does by itself: logging in to ECR.
func (c *converter) login(cmd *command, args []string) {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case slices.Contains([]string{"-u", "--username", "-p", "--password"}, a):
			i++
		case strings.HasPrefix(a, "-"):
		default:
			cmd.public = strings.HasPrefix(a, plan.PublicRegistry)
			cmd.login = cmd.public || strings.Contains(a, ".dkr.ecr.")
		}
	}
}
