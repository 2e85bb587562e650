package buildspec

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// composeNames are those of a Compose file that nobody has named.
// https://docs.docker.com/compose/intro/compose-application-model/#the-compose-file
var composeNames = []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}

// composeOverrides are read beside those.
var composeOverrides = []string{"compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml",
	"docker-compose.override.yml"}

// A composeService is what a Compose file has of a service, as far as it is built.
type composeService struct {
	Image   string `yaml:"image"`
	Build   any    `yaml:"build"`
	Extends any    `yaml:"extends"`

	Platform string   `yaml:"platform"`
	Profiles []string `yaml:"profiles"`
}

// compose follows docker compose build and push.
func (c *converter) compose(cmd *command, args []string) {
	var files, rest []string
	var more []pair // --build-arg
	push := false
	var flags []string // keys of ecsbuild.yml
	for i := 0; i < len(args); i++ {
		flag, value, hasValue := strings.Cut(args[i], "=")
		if !strings.HasPrefix(flag, "-") {
			rest = append(rest, args[i])
			continue
		}
		if slices.Contains([]string{"-f", "--file", "--build-arg", "-p", "--project-name", "--profile", "--env-file", "--progress", "--project-directory"}, flag) && !hasValue {
			if i++; i < len(args) {
				value = args[i]
			}
		}
		switch flag {
		case "-f", "--file":
			files = append(files, value)
		case "--build-arg":
			name, text, ok := strings.Cut(value, "=")
			more = append(more, c.fromEnvironment(pair{name, text, !ok}))
		case "--push":
			push = true
		case "--pull", "--no-cache":
			if value == "false" {
				break
			}
			flags = append(flags, strings.ReplaceAll(flag[2:], "-", "_"))
		case "-p", "--project-name", "--progress", "--parallel", "--quiet", "-q", "-d":
		default:
			if len(rest) > 0 && (rest[0] == "build" || rest[0] == "push") || len(rest) == 0 {
				c.problem(cmd, "docker compose's flag "+flag+" is not understood")
				return
			}
		}
	}
	if len(rest) == 0 {
		return
	}
	switch rest[0] {
	case "build":
		c.composeBuild(cmd, files, rest[1:], more, flags, push)
	case "push":
		c.composePush(cmd, files, rest[1:])
	case "up":
		if services, _, err := c.composeFile(files); err == nil && slices.Contains(args, "--build") {
			for _, name := range slices.Sorted(maps.Keys(services)) {
				if services[name].Build != nil {
					c.started = append(c.started, started{name, c.composeText(cmd, services[name].Image), cmd})
				}
			}
		}
	}
}

func (c *converter) composeBuild(cmd *command, files, only []string, more []pair, flags []string, push bool) {
	services, file, err := c.composeFile(files)
	if err != nil {
		c.problem(cmd, err.Error())
		return
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s := services[name]
		if s.Build == nil || len(only) > 0 && !slices.Contains(only, name) || len(only) == 0 && len(s.Profiles) > 0 {
			continue
		}
		b, err := c.composeImage(cmd, file, s)
		if err != nil {
			c.problem(cmd, fmt.Sprintf("service %s: %v", name, err))
			return
		}
		b.args, b.flags = append(b.args, more...), append(b.flags, flags...)
		c.builds = append(c.builds, b)
		c.services[serviceKey(file, name)] = b
		cmd.build = b
		for _, n := range b.names {
			c.local[n.String()] = b
		}
	}
	if push {
		c.composePush(cmd, files, only)
	}
}

// serviceKey is a service among those of all Compose files.
func serviceKey(file, service string) string { return file + " " + service }

// composePush pushes what the services are called by.
func (c *converter) composePush(cmd *command, files, only []string) {
	services, file, err := c.composeFile(files)
	if err != nil {
		c.problem(cmd, err.Error())
		return
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		b := c.services[serviceKey(file, name)]
		if b == nil || len(only) > 0 && !slices.Contains(only, name) || len(b.names) == 0 {
			continue
		}
		if _, ok := b.names[0].destination(c.isSet); !ok {
			c.problem(cmd, fmt.Sprintf("the image of service %s goes to another registry than ECR", name))
			return
		}
		b.pushed, cmd.build, cmd.pushes = append(b.pushed, b.names[0]), b, true
	}
	if cmd.build == nil {
		c.problem(cmd, "no service that it pushes is built here")
	}
}

// composeFile reads the services of a Compose file, and says which it is.
func (c *converter) composeFile(files []string) (map[string]composeService, string, error) {
	if len(files) > 1 {
		return nil, "", errors.New("it merges several Compose files")
	}
	for _, name := range []string{"COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_ENV_FILES"} {
		if _, ok := c.variables[name]; ok || c.exports[name] {
			return nil, "", errors.New(name + " is set")
		}
	}
	names := composeNames
	if len(files) == 1 {
		names = files
	}
	for _, name := range composeOverrides {
		if _, err := c.read(relative(c.path(name))); err == nil && len(files) == 0 {
			return nil, "", fmt.Errorf("%s changes its Compose file", name)
		}
	}
	if env, err := c.read(relative(c.path(".env"))); err == nil && len(strings.TrimSpace(string(env))) > 0 {
		return nil, "", errors.New(".env has variables for its Compose file")
	}
	if c.lost {
		return nil, "", errors.New("the folder where it runs is not known")
	}
	for _, name := range names {
		at := c.path(name)
		data, err := c.read(relative(at))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var file struct {
			Services map[string]composeService `yaml:"services"`
			Include  any                       `yaml:"include"`
		}
		if err == nil {
			err = yaml.Unmarshal(data, &file)
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s cannot be read: %w", name, err)
		}
		if file.Include != nil {
			return nil, "", fmt.Errorf("%s includes other files", name)
		}
		env, err := c.read(relative(clean(path.Dir(at) + "/.env")))
		if err == nil && len(strings.TrimSpace(string(env))) > 0 {
			return nil, "", fmt.Errorf(".env beside %s has variables for it", name)
		}
		return file.Services, at, nil
	}
	return nil, "", errors.New("there is no Compose file " + strings.Join(names, ", "))
}

// composeKeys are the keys of a build section that are lists, and those that are texts.
var composeTexts = []string{"target", "network", "shm_size"}

// composeImage is the build of a service.
func (c *converter) composeImage(cmd *command, composeFile string, s composeService) (*build, error) {
	if s.Extends != nil {
		return nil, errors.New("it extends another service")
	}
	dir := path.Dir(composeFile)
	b := &build{at: cmd, lists: map[string][]string{}}
	if s.Image != "" {
		b.names = []reference{parseReference(c.composeText(cmd, s.Image))}
	}
	if s.Platform != "" {
		b.lists["platforms"] = []string{c.composeText(cmd, s.Platform)}
	}
	section, ok := s.Build.(map[string]any)
	if !ok {
		section = map[string]any{"context": s.Build}
	}
	at := func(p string) string {
		if isURL(p) || path.IsAbs(p) {
			return p
		}
		return clean(dir + "/" + p)
	}
	b.context = at(".")
	file := ""
	for _, key := range slices.Sorted(maps.Keys(section)) {
		text := c.composeText(cmd, fmt.Sprint(section[key]))
		switch {
		case key == "context":
			b.context = at(text)
		case key == "dockerfile":
			file = text
		case key == "args" || key == "labels":
			pairs, err := c.composePairs(cmd, section[key])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			if key == "args" {
				b.args = pairs
			} else {
				b.labels = pairs
			}
		case key == "target":
			b.target = text
		case slices.Contains(composeTexts, key):
			b.texts = append(b.texts, pair{key: key, value: text})
		case key == "no_cache" || key == "pull":
			if text == "true" {
				b.flags = append(b.flags, key)
			}
		case key == "additional_contexts":
			pairs, err := c.composePairs(cmd, section[key])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			for _, p := range pairs {
				if service, ok := strings.CutPrefix(p.value, "service:"); ok {
					b.links = append(b.links, link{context: p.key, service: serviceKey(composeFile, service)})
					continue
				}
				if !isURL(p.value) {
					p.value = relative(at(p.value))
				}
				b.lists[key] = append(b.lists[key], p.key+"="+p.value)
			}
		case slices.Contains(lists, key):
			list, ok := section[key].([]any)
			if !ok {
				return nil, fmt.Errorf("%s is no list", key)
			}
			for _, v := range list {
				b.lists[key] = append(b.lists[key], c.composeText(cmd, fmt.Sprint(v)))
			}
		default:
			return nil, fmt.Errorf("%s of its build section is not translated", key)
		}
	}
	if file != "" {
		b.dockerfile = file
		if !isURL(b.context) && !path.IsAbs(file) {
			b.dockerfile = clean(b.context + "/" + file)
		}
	}
	return b, nil
}
