package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// TestSecrets gives every secret of a run a text that can be found again, and looks for it, also
// encoded, wherever something may stay or be seen: command lines and environments while it runs,
// all output, and every file of the user, of the registry and of the engine, unpacked.
func TestSecrets(t *testing.T) {
	kinds := soakKinds(t, "codebuild")
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			testSecrets(t, kind)
		})
	}
}

func testSecrets(t *testing.T, kind string) {
	w := newWorld(t, kind)
	if err := (&stage{rig: w.rig}).hubImage("library/base:1", 0); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"secretsmanager:GetSecretValue", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"} {
		w.rig.Allow(a)
	}
	w.busybox()
	w.rig.AddRepository(awstest.Account, "shop", false)
	secrets := map[string]string{}
	marker := func(name string) string {
		secrets[name] = fmt.Sprintf("%s-%016x-%016x", name, rand.Uint64(), rand.Uint64())
		return secrets[name]
	}
	w.rig.HubAccount("hubuser", marker("hub"))
	w.rig.SetParameter("DOCKER_HUB_ID", "hubuser")
	w.rig.SetParameter("DOCKER_HUB_PASSWORD", secrets["hub"])
	w.rig.SetParameter("/shop/token", marker("ssm"))
	w.rig.SetSecret("shop/npm", `{"token":"`+marker("manager")+`"}`)
	w.environ = append(w.environ, "AWS_SECRET_ACCESS_KEY="+marker("key"), "AWS_SESSION_TOKEN="+marker("session"),
		"NPM_TOKEN="+marker("env"), "GHCR_PASSWORD="+marker("registry"), "GITHUB_STEP_SUMMARY="+
			filepath.Join(w.dir, "home", "summary.md"))
	cache := "cache: registry, "
	if slices.Contains(classicKinds, kind) {
		cache = "cache: inline, "
	}
	w.write("ecsbuild.yml", "tag: v1\nregistries:\n  - {host: ghcr.io, username: ci, password: \"env:GHCR_PASSWORD\"}\nimages:\n"+
		"  - {container: web, repository: shop, "+cache+"cache_mounts: true, "+
		"secrets: {token: \"ssm:/shop/token\", npm: \"secretsmanager:shop/npm#token\", env: \"env:NPM_TOKEN\"}}\n")
	step := "RUN --mount=type=secret,id=token --mount=type=secret,id=npm --mount=type=secret,id=env " +
		"--mount=type=cache,target=/m [\"/busybox\", \"sh\", \"-c\", \"" +
		"/busybox cat /run/secrets/token /run/secrets/npm /run/secrets/env | /busybox wc -c; " +
		"/busybox date >/m/date; /busybox sleep 0.%d%s\"]\n"
	dockerfile := "FROM base:1\nCOPY busybox /\n" + step

	h := &hunt{secrets: secrets, rig: w.rig}
	output := filepath.Join(w.dir, "output")
	if err := os.Mkdir(output, 0o755); err != nil {
		t.Fatal(err)
	}
	count := 0
	run := func(want int, meanwhile func(*os.Process), tail string, args ...string) {
		t.Helper()
		count++
		w.write("Dockerfile", fmt.Sprintf(dockerfile, count, tail))
		stop := h.sample(t)
		r := w.run(meanwhile, append([]string{"run", "--report", filepath.Join(output, strconv.Itoa(count)+".html")},
			args...)...)
		stop()
		if r.code != want {
			t.Fatalf("%v: exit code %d, not %d: %s", args, r.code, want, r.stderr)
		}
		if want == 0 && !strings.Contains(r.stdout, "web\t") {
			t.Fatalf("%v: %s", args, r.stdout)
		}
		write(t, filepath.Join(output, strconv.Itoa(count)+".out"), r.stdout+r.stderr)
	}
	for _, mode := range []string{"plain", "json", "quiet", "auto"} {
		run(0, nil, "", "--progress", mode, "--exports", filepath.Join(output, mode+".env"))
	}
	github := len(w.environ)
	w.environ = append(w.environ, "GITHUB_ACTIONS=true")
	run(0, nil, "", "--progress", "auto")
	w.environ = w.environ[:github]
	run(1, nil, "; exit 3", "--progress", "plain")
	stopIt := func(s syscall.Signal) func(*os.Process) {
		return func(p *os.Process) { time.Sleep(time.Second); _ = p.Signal(s) }
	}
	run(2, stopIt(syscall.SIGABRT), "; /busybox sleep 20", "--progress", "plain")   // the crash of a Go program
	run(143, stopIt(syscall.SIGTERM), "; /busybox sleep 20", "--progress", "plain") // clears what that has left

	for _, dir := range []string{w.dir, w.rig.Dir, w.folder} {
		h.search(t, dir)
	}
	if len(h.finds) > 0 {
		t.Errorf("found:\n%s", strings.Join(h.finds, "\n"))
	}
	t.Logf("%d secrets in %d forms: %d processes looked at, %d files, %d MB unpacked", len(secrets)+len(w.rig.Tokens()),
		len(h.forms()), h.processes, h.files, h.bytes>>20)

	// What is looked for can be found.
	planted := t.TempDir()
	var z bytes.Buffer
	zip := gzip.NewWriter(&z)
	_, _ = zip.Write(append(make([]byte, 1<<20-20), base64.StdEncoding.EncodeToString([]byte("x:"+secrets["ssm"]))...))
	_ = zip.Close()
	write(t, filepath.Join(planted, "layer"), z.String())
	h.finds = nil
	h.search(t, planted)
	if len(h.finds) == 0 {
		t.Error("a secret that was planted is not found")
	}
}

// A hunt looks for secrets.
type hunt struct {
	secrets map[string]string
	rig     *awstest.Rig // which has given tokens

	finds            []string
	processes, files int
	bytes            int64
}

// forms are the texts that a secret may appear as, and whose.
func (h *hunt) forms() map[string]string {
	all := map[string]string{}
	add := func(name, secret string) {
		all[secret], all[url.QueryEscape(secret)], all[hex.EncodeToString([]byte(secret))] = name, name, name
		for shift := range 3 { // as base64 has it after one or two other bytes
			if shift < len(secret) {
				text := secret[shift : shift+(len(secret)-shift)/3*3]
				all[base64.StdEncoding.EncodeToString([]byte(text))] = name
				all[base64.URLEncoding.EncodeToString([]byte(text))] = name
			}
		}
	}
	for name, secret := range h.secrets {
		add(name, secret)
	}
	for _, token := range h.rig.Tokens() {
		add("token", token)
	}
	return all
}

func (h *hunt) look(place string, data []byte, forms map[string]string) {
	for form, name := range forms {
		if bytes.Contains(data, []byte(form)) {
			h.finds = append(h.finds, fmt.Sprintf("%s, as %s, in %s", name, form, place))
		}
	}
}

// sample looks at all processes until stop is called. ecsbuild has secrets in the environment
// that it was given, as its user wants it, and nobody else has.
func (h *hunt) sample(t *testing.T) (stop func()) {
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		seen := map[string]bool{}
		for {
			files, _ := filepath.Glob("/proc/[0-9]*")
			forms := h.forms()
			for _, dir := range files {
				line, err := os.ReadFile(dir + "/cmdline")
				if err != nil || len(line) == 0 {
					continue
				}
				environ, _ := os.ReadFile(dir + "/environ")
				if key := dir + string(line) + string(environ); !seen[key] {
					seen[key] = true
					h.processes++
					h.look("the command line of "+string(line), line, forms)
					exe, err := os.Readlink(dir + "/exe")
					if err != nil { // it has ended meanwhile: as it calls itself
						name, _, _ := bytes.Cut(line, []byte{0})
						exe = string(name)
					}
					if filepath.Base(exe) != "ecsbuild" {
						h.look("the environment of "+string(line), environ, forms)
					}
				}
			}
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() { close(done); wait.Wait() }
}

// search reads every file below a folder, and what it is a compressed form of.
func (h *hunt) search(t *testing.T, dir string) {
	t.Helper()
	forms := h.forms()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			if errors.Is(err, fs.ErrNotExist) { // the engine runs
				return nil
			}
			return err
		}
		h.look("the name "+path, []byte(path), forms)
		f, err := os.Open(path)
		if err != nil {
			return nil
		}
		defer f.Close()
		h.files++
		head := make([]byte, 4)
		n, _ := io.ReadFull(f, head)
		for _, unpack := range []func(io.Reader) (io.Reader, error){
			func(r io.Reader) (io.Reader, error) { return r, nil },
			func(r io.Reader) (io.Reader, error) {
				if !bytes.HasPrefix(head[:n], []byte{0x1f, 0x8b}) {
					return nil, errors.ErrUnsupported
				}
				return gzip.NewReader(r)
			},
			func(r io.Reader) (io.Reader, error) {
				if !bytes.Equal(head[:n], []byte{0x28, 0xb5, 0x2f, 0xfd}) {
					return nil, errors.ErrUnsupported
				}
				return zstd.NewReader(r)
			},
		} {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if r, err := unpack(bufio.NewReader(f)); err == nil {
				h.read(path, r, forms)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// read looks at a stream, in pieces that overlap by the longest form.
func (h *hunt) read(path string, r io.Reader, forms map[string]string) {
	longest := 0
	for form := range forms {
		longest = max(longest, len(form))
	}
	buf, kept := make([]byte, 1<<20+longest), 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		h.bytes += int64(n)
		h.look(path, buf[:kept+n], forms)
		if err != nil {
			return
		}
		kept = copy(buf, buf[kept+n-longest:kept+n])
	}
}
