package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// A workload is an application: the images that one build makes of one folder.
type workload struct {
	name   string
	images []image
	dir    string // the sources as they lie in the repository; a build gets a copy
	yaml   bool   // configured by ecsbuild.yml; else, as most are, by the environment
	keys   string // that each image has more in an ecsbuild.yml of the checkout's own
}

// image is one of them; its paths are relative to the folder.
type image struct{ name, context, dockerfile string }

// app is two images from one folder, as a Laravel project has them: 60 MB of
// own files on a base of 200 MB.
func app(dir string) (*workload, error) {
	w := &workload{name: "app", dir: dir, images: []image{{"php", ".", "docker/php/Dockerfile"},
		{"nginx", ".", "docker/nginx/Dockerfile"}}}
	f := newFiller(1)
	for _, t := range []struct {
		dir         string
		count, size int
	}{{"vendor", 1000, 40_000}, {"public", 60, 300_000}, {"src", 200, 10_000}} {
		if err := f.tree(filepath.Join(dir, t.dir), t.count, t.size); err != nil {
			return nil, err
		}
	}
	return w, w.dockerfiles(map[string]string{
		"docker/php/Dockerfile":   "FROM base\nCOPY vendor /app/vendor\nRUN echo ready > /app/installed\nCOPY src /app/src\n",
		"docker/nginx/Dockerfile": "FROM base\nRUN echo ready > /installed\nCOPY public /app/public\n",
	})
}

// linked is app with linked copies, which need no layer below them.
func linked(dir string) (*workload, error) {
	w, err := app(dir)
	if err != nil {
		return nil, err
	}
	w.name = "linked"
	return w, w.dockerfiles(map[string]string{
		"docker/php/Dockerfile":   "FROM base\nCOPY --link vendor /app/vendor\nRUN echo ready > /installed\nCOPY --link src /app/src\n",
		"docker/nginx/Dockerfile": "FROM base\nRUN echo ready > /installed\nCOPY --link public /app/public\n",
	})
}

// steps is app with what a real project waits for: twenty seconds of dependencies before the
// copy of the sources, and ten in a builder stage. Both leave files of some size.
func steps(dir string) (*workload, error) {
	w, err := app(dir)
	if err != nil {
		return nil, err
	}
	w.name = "steps"
	return w, w.dockerfiles(map[string]string{
		"composer.lock": "locked\n",
		"docker/php/Dockerfile": "FROM base\nCOPY composer.lock /app/\n" +
			"RUN sleep 20 && for i in 1 2 3 4 5; do head -c 2000000 /dev/urandom > /app/dependency$i; done\n" +
			"COPY vendor /app/vendor\nCOPY src /app/src\n",
		"docker/nginx/Dockerfile": "FROM base AS assets\nCOPY public /build/public\n" +
			"RUN sleep 10 && cp -r /build/public /build/dist\n" +
			"FROM base\nCOPY --from=assets /build/dist /app/public\n",
	})
}

// mounts is app with a step that downloads 300 MB into a cache mount, or finds them there. It
// depends on the sources, as one that compiles them does.
func mounts(dir string) (*workload, error) {
	w, err := app(dir)
	if err != nil {
		return nil, err
	}
	w.name = "mounts"
	return w, w.dockerfiles(map[string]string{
		"docker/php/Dockerfile": "FROM base\nCOPY vendor /app/vendor\nCOPY src /app/src\nCOPY docker/php/install.sh /\n" +
			"RUN --mount=type=cache,target=/cache sh /install.sh\n",
		"docker/nginx/Dockerfile": "FROM base\nRUN echo ready > /installed\nCOPY public /app/public\n",
		"docker/php/install.sh": `set -e
if [ -e /cache/done ]; then sleep 3; else
  sleep 25
  for d in 1 2 3 4 5 6 7 8 9 10; do
    mkdir /cache/$d
    n=0
    while [ $n -lt 100 ]; do
      head -c 300000 /dev/urandom > /cache/$d/$n
      n=$((n + 1))
    done
  done
  touch /cache/done
fi
echo installed > /installed
`,
	})
}

// eight is eight services with a step of two seconds each. The step comes
// after a file of the service's own, or one would be every service's.
func eight(dir string) (*workload, error) {
	w := &workload{name: "eight", dir: dir}
	for i := range 8 {
		name := fmt.Sprintf("svc%d", i+1)
		w.images = append(w.images, image{name, name, name + "/Dockerfile"})
		if err := write(filepath.Join(dir, name, "data"), newFiller(uint64(10+i)).bytes(4_000_000)); err != nil {
			return nil, err
		}
		if err := w.dockerfiles(map[string]string{name +
			"/Dockerfile": "FROM busybox\nCOPY data /data\nRUN sleep 2\n"}); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// hundred is more images than anybody has, to see what grows with them.
func hundred(dir string) (*workload, error) {
	return many(dir, "hundred", 100, "", "FROM scratch\nCOPY data /data\n")
}

// sixty is what several builders share: images with a step of two seconds each, which waits and
// needs no processor, since all builders have this machine's.
func sixty(dir string) (*workload, error) {
	return many(dir, "sixty", 60, ", platforms: [linux/amd64]", "FROM busybox\nCOPY data /data\nRUN sleep 2\n")
}

// many is n images of one Dockerfile; keys are what each has more in ecsbuild.yml.
func many(dir, name string, n int, keys, dockerfile string) (*workload, error) {
	w := &workload{name: name, dir: dir, yaml: true}
	yaml := strings.Builder{}
	yaml.WriteString("images:\n")
	for i := range n {
		name := fmt.Sprintf("img%03d", i+1)
		w.images = append(w.images, image{name, name, name + "/Dockerfile"})
		fmt.Fprintf(&yaml, "  - {container: %[1]s, repository: %[1]s, context: %[1]s, tags: [\"${IMAGE_TAG}\"]%[2]s}\n",
			name, keys)
		if err := write(filepath.Join(dir, name, "data"), []byte(name+"\n")); err != nil {
			return nil, err
		}
		if err := w.dockerfiles(map[string]string{name + "/Dockerfile": dockerfile}); err != nil {
			return nil, err
		}
	}
	return w, write(filepath.Join(dir, "ecsbuild.yml"), []byte(yaml.String()))
}

// large is one image with one layer of four gigabytes that nothing compresses,
// to see that memory does not grow with it.
func large(dir string) (*workload, error) {
	w := &workload{name: "large", dir: dir, images: []image{{"large", ".", "Dockerfile"}}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), 4<<30)
	return w, errors.Join(err, f.Close(), w.dockerfiles(map[string]string{"Dockerfile": "FROM busybox\nCOPY data /data\n"}))
}

func (w *workload) dockerfiles(files map[string]string) error {
	for name, text := range files {
		if err := write(filepath.Join(w.dir, name), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// checkout returns a new host its copy of the sources. The times of its files
// and folders are new, as after git clone.
func (w *workload) checkout(to string) error {
	if err := os.CopyFS(to, os.DirFS(w.dir)); err != nil || w.keys == "" {
		return err
	}
	var yaml strings.Builder
	yaml.WriteString("images:\n")
	for _, img := range w.images {
		fmt.Fprintf(&yaml, "  - {container: %s, repository: %s, dockerfile: %s, context: %s, tags: [\"${IMAGE_TAG}\"], %s}\n",
			img.name, img.name, img.dockerfile, img.context, w.keys)
	}
	return write(filepath.Join(to, "ecsbuild.yml"), []byte(yaml.String()))
}

// change changes one line of one own file in a checkout, to a text that no
// change before had.
func change(checkout string, n int) error {
	files, err := filepath.Glob(filepath.Join(checkout, "src", "d00", "f0000.txt"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("no own file to change in %s: %v", checkout, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	return os.WriteFile(files[0], append([]byte(fmt.Sprintf("change %d\n", n)), data...), 0o644)
}

// with is the same sources, with a key more for each image.
func (w *workload) with(keys string) *workload {
	if w == nil {
		return nil
	}
	more := *w
	more.keys, more.yaml = keys, true
	return &more
}

// environment is the project's: what a buildspec for these images has set.
func (w *workload) environment(tag string) []string {
	env := []string{"IMAGE_TAG=" + tag}
	for i, img := range w.images {
		if w.yaml {
			break
		}
		set := func(key, value string) { env = append(env, fmt.Sprintf("%s_%d=%s", key, i+1, value)) }
		set("IMAGE_REPO_NAME", img.name)
		set("CONTAINER_NAME", img.name)
		set("DOCKERFILE", img.dockerfile)
		set("BUILD_CONTEXT", img.context)
	}
	return env
}
