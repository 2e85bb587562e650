package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/ecsbuild/ecsbuild/internal/awsrig"
)

// stage is what scripts say to the world around ecsbuild.
type stage struct {
	rig  *awsrig.Rig
	kind string
}

// command is "rig VERB ARG…".
func (s *stage) command(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: rig VERB ARG...")
	}
	verb, args := args[0], args[1:]
	arg := func(i int) string {
		if i >= len(args) {
			ts.Fatalf("rig %s: argument %d is missing", verb, i+1)
		}
		return args[i]
	}
	switch verb {
	case "repository":
		for _, n := range args {
			s.rig.AddRepository(awsrig.Account, n, false)
		}
	case "repository-of":
		s.rig.AddRepository(arg(0), arg(1), false)
	case "immutable":
		s.rig.AddRepository(awsrig.Account, arg(0), true)
	case "mounting":
		s.rig.AllowMounting()
	case "parameter":
		s.rig.SetParameter(arg(0), arg(1))
	case "secret":
		s.rig.SetSecret(arg(0), arg(1))
	case "service":
		cluster, service, _ := strings.Cut(arg(0), "/")
		s.rig.SetService(cluster, service, args[1:]...)
	case "allow":
		s.rig.Allow(arg(0))
	case "deny":
		s.rig.Deny(arg(0))
	case "refuse-kms":
		s.rig.RefuseKMS()
	case "expire-tokens":
		s.rig.ExpireTokens()
	case "hub-account":
		s.rig.HubAccount(arg(0), arg(1))
	case "differ": // rig differ REPOSITORY TAG REPOSITORY TAG
		one, two := s.rig.Manifest(awsrig.Account, arg(0), arg(1)), s.rig.Manifest(awsrig.Account, arg(2), arg(3))
		if one == nil || two == nil || bytes.Equal(one, two) {
			ts.Fatalf("%s:%s and %s:%s are the same image, or not there", arg(0), arg(1), arg(2), arg(3))
		}
	case "hub-refuse-all":
		s.rig.RefuseAllPulls(awsrig.HubLimitOld)
	case "hub-refuse-anonymous":
		s.rig.RefuseAnonymousPulls(map[string]string{"old": awsrig.HubLimitOld, "new": awsrig.HubLimitNew}[arg(0)])
	case "hub-image": // rig hub-image NAME [BYTES of a second layer]
		size := 0
		if len(args) > 1 {
			size, _ = strconv.Atoi(args[1])
		}
		ts.Check(s.hubImage(arg(0), size))
	case "hub-pulls-left":
		n, err := strconv.Atoi(arg(0))
		ts.Check(err)
		s.rig.HubPullsLeft(n)
	case "policy": // rig policy FILE: what ecsbuild policy printed
		ts.Check(s.policy(ts.ReadFile(arg(0))))
	case "each-action": // rig each-action POLICY REPOSITORY: without any one of them, a run names it
		s.eachAction(ts, ts.ReadFile(arg(0)), arg(1))
	case "hub-refuse-blobs":
		s.rig.RefuseHubBlobs()
	case "has-layers": // rig has-layers REPOSITORY TAG HUB-IMAGE
		ts.Check(s.hasLayers(arg(0), arg(1), arg(2)))
	case "fault": // rig fault ACTION TIMES status=… code=… message=… reset cut=BYTES delay=…
		s.rig.Inject(parseFault(ts, arg(0), arg(1), args[2:]))
	case "forget":
		s.rig.Forget()
	case "summary":
		ts.Check(os.WriteFile(ts.MkAbs(arg(0)), []byte(s.rig.Summary()), 0o644))
	case "tags":
		var b strings.Builder
		for t := range s.rig.Tags(awsrig.Account, arg(0)) {
			fmt.Fprintln(&b, t)
		}
		ts.Check(os.WriteFile(ts.MkAbs(arg(1)), []byte(b.String()), 0o644))
	case "sent-below": // rig sent-below BYTES
		limit, err := strconv.ParseInt(arg(0), 10, 64)
		ts.Check(err)
		if n := s.rig.Bytes(); n >= limit {
			ts.Fatalf("%d bytes were sent, not below %d", n, limit)
		}
	case "puts-per-second":
		limit, err := strconv.Atoi(arg(0))
		ts.Check(err)
		if n := s.rig.MaxPutsPerSecond(); n > limit {
			ts.Fatalf("%d PutImage in a second, more than %d", n, limit)
		}
	case "has-no": // rig has-no TEXT: neither layer nor config nor file of the rig holds it
		ts.Check(s.hasNo(arg(0)))
	default:
		ts.Fatalf("rig: unknown verb %q", verb)
	}
}

func parseFault(ts *testscript.TestScript, action, times string, rest []string) awsrig.Fault {
	n, err := strconv.Atoi(times)
	ts.Check(err)
	f := awsrig.Fault{Action: action, Times: n}
	for _, kv := range rest {
		k, v, _ := strings.Cut(kv, "=")
		switch k {
		case "status":
			f.Status, err = strconv.Atoi(v)
		case "code":
			f.Code = v
		case "message":
			f.Message = v
		case "reset":
			f.Reset = true
		case "cut":
			f.CutAfter, err = strconv.ParseInt(v, 10, 64)
		case "delay":
			f.Delay, err = time.ParseDuration(v)
		case "repository":
			f.Repository = v
		default:
			ts.Fatalf("rig fault: unknown %q", kv)
		}
		ts.Check(err)
	}
	return f
}

// busybox puts Debian's static busybox where a Dockerfile can copy it.
func (s *stage) busybox(ts *testscript.TestScript, neg bool, args []string) {
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		ts.Fatalf("busybox: %v; script/engine install debian brings it", err)
	}
	for _, a := range args {
		ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(a)), 0o755))
		ts.Check(os.WriteFile(ts.MkAbs(a), data, 0o755))
	}
}

// sshkey writes a private key that nobody else has.
func sshkey(ts *testscript.TestScript, neg bool, args []string) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(key, "")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(block), 0o600))
}

// binary builds ecsbuild as a release has it.
func binary(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o755))
	if out, err := exec.Command("make", "-s", "-C", "../..", "build", "OUT="+ts.MkAbs(args[0])).CombinedOutput(); err != nil {
		ts.Fatalf("make build: %v\n%s", err, out)
	}
	if st, err := os.Stat(ts.MkAbs(args[0])); err != nil || st.Size() >= 30e6 {
		ts.Fatalf("the binary has %d bytes, and may have 30 MB: %v", st.Size(), err)
	}
}

// hubImage puts an image of busybox into the rig's Docker Hub, with a second
// layer of random bytes where size is not 0. It is compressed by the standard
// library's gzip, as no engine would do it.
func (s *stage) hubImage(repo string, size int) error {
	layers := []v1.Layer{}
	base, err := tarball.LayerFromFile(busyboxTar())
	if err != nil {
		return err
	}
	layers = append(layers, base)
	if size > 0 {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		data := make([]byte, size)
		_, _ = rand.Read(data)
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: "large", Mode: 0o644, Size: int64(size)}), func() error { _, err := w.Write(data); return err }(), w.Close()); err != nil {
			return err
		}
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithCompressionLevel(gzip.BestCompression))
		if err != nil {
			return err
		}
		layers = append(layers, l)
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return err
	}
	cfg.OS, cfg.Architecture = "linux", "amd64"
	cfg.Config.Env = []string{"PATH=/bin"}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		return err
	}
	return s.withHub(repo, func(ref name.Reference) error { return remote.Write(ref, img) })
}

// withHub reaches the hub's store, which asks for nothing.
func (s *stage) withHub(repo string, f func(name.Reference) error) error {
	server := httptest.NewServer(s.rig.Hub())
	defer server.Close()
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/" + repo)
	if err != nil {
		return err
	}
	return f(ref)
}

// hasLayers checks that an image begins with a base image's layers, to the digest.
func (s *stage) hasLayers(repo, tag, base string) error {
	m, err := v1.ParseManifest(bytes.NewReader(s.rig.Manifest(awsrig.Account, repo, tag)))
	if err != nil {
		return err
	}
	return s.withHub(base, func(ref name.Reference) error {
		img, err := remote.Image(ref)
		if err != nil {
			return err
		}
		b, err := img.Manifest()
		if err != nil {
			return err
		}
		for i, l := range b.Layers {
			if l.Size > 10<<20 && m.Layers[i].Digest != l.Digest { // smaller ones an engine compresses anew
				return fmt.Errorf("layer %d is %s, the base has %s", i, m.Layers[i].Digest, l.Digest)
			}
		}
		return nil
	})
}

// collect is "collect FILE TITLE": what the last command said goes to the end of
// a file, without what differs from run to run.
func collect(ts *testscript.TestScript, neg bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	ts.Check(err)
	text := ts.ReadFile("stderr")
	for pattern, with := range map[string]string{
		`sha256:[0-9a-f]{64}`: "sha256:…", `ref [a-z0-9-]+::[a-z0-9]+`: "ref …", regexp.QuoteMeta(ts.Getenv("WORK")): "WORK",
		`mkdir [0-9]+`: "mkdir", `buildkit-mount[0-9]+`: "buildkit-mount", `/tmp/[^ "]*/overlay2/[0-9a-z]+/`: "OVERLAY/",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, with)
	}
	_, err = fmt.Fprintf(f, "# %s\n%s\n", strings.Join(args[1:], " "), text)
	ts.Check(err)
	ts.Check(f.Close())
}

// eachAction takes each action of a policy away in turn; the repository is
// emptied each time, so that everything has to be sent.
func (s *stage) eachAction(ts *testscript.TestScript, policy, repo string) {
	actions := regexp.MustCompile(`"([a-z]+:[A-Z][A-Za-z]+)"`).FindAllStringSubmatch(policy, -1)
	if len(actions) < 7 {
		ts.Fatalf("the policy has only %d actions", len(actions))
	}
	for _, a := range actions {
		ts.Check(s.policy(policy))
		s.rig.Deny(a[1])
		s.rig.AddRepository(awsrig.Account, repo, false)
		s.rig.Empty(awsrig.Account)
		if ts.Exec("ecsbuild", "run", "--progress", "quiet") == nil {
			ts.Fatalf("a run succeeds without %s", a[1])
		}
		if out := ts.ReadFile("stderr"); !strings.Contains(out, "may not call "+a[1]) || !strings.Contains(out, `"`+a[1]+`"`) {
			ts.Fatalf("without %s the run says:\n%s", a[1], out)
		}
	}
}

// policy puts an IAM policy document into force.
func (s *stage) policy(text string) error {
	var doc struct {
		Statement []struct {
			Effect   string
			Action   []string
			Resource []string
		}
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return err
	}
	var grants []awsrig.Grant
	for _, st := range doc.Statement {
		for _, a := range st.Action {
			for _, r := range st.Resource {
				grants = append(grants, awsrig.Grant{Action: a, Resource: r})
			}
		}
	}
	s.rig.SetPolicy(grants)
	return nil
}

// hasNo looks for a secret in everything that was pushed.
func (s *stage) hasNo(text string) error {
	return filepath.WalkDir(filepath.Join(s.rig.Dir, "ecr"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		var r io.Reader = f
		if z, err := gzip.NewReader(f); err == nil {
			r = z
		} else if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if strings.Contains(string(data), text) {
			return fmt.Errorf("%s holds the secret", path)
		}
		return nil
	})
}

// verify is "verify REPOSITORY TAG": every layer in the registry unpacks to
// the diffID that the image's config names, in order; and on the classic store
// that config is the engine's own, since an image is called by it.
func (s *stage) verify(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: verify REPOSITORY TAG")
	}
	ts.Check(s.checkImage(args[0], args[1]))
	if s.kind != "debian" && s.kind != "classic" {
		return
	}
	ts.Check(ts.Exec("docker", "image", "inspect", "--format", "{{.Id}}", s.rig.Host(awsrig.Account)+"/"+args[0]+":"+args[1]))
	m, err := v1.ParseManifest(bytes.NewReader(s.rig.Manifest(awsrig.Account, args[0], args[1])))
	ts.Check(err)
	if id := strings.TrimSpace(ts.ReadFile("stdout")); id != m.Config.Digest.String() {
		ts.Fatalf("the engine's image is %s, the registry's %s", id, m.Config.Digest)
	}
}

func (s *stage) checkImage(repo, tag string) error {
	data := s.rig.Manifest(awsrig.Account, repo, tag)
	if data == nil {
		return fmt.Errorf("%s has no tag %s", repo, tag)
	}
	m, err := v1.ParseManifest(strings.NewReader(string(data)))
	if err != nil {
		return err
	}
	var cfg struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	raw, err := s.blob(repo, m.Config.Digest.String(), false)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return err
	}
	if len(cfg.RootFS.DiffIDs) != len(m.Layers) || len(m.Layers) == 0 {
		return fmt.Errorf("%d diffIDs and %d layers", len(cfg.RootFS.DiffIDs), len(m.Layers))
	}
	for i, l := range m.Layers {
		if packed, err := s.blob(repo, l.Digest.String(), false); err != nil || int64(len(packed)) != l.Size {
			return fmt.Errorf("layer %d has %d bytes, the manifest says %d: %v", i, len(packed), l.Size, err)
		}
		raw, err := s.blob(repo, l.Digest.String(), true)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		if got := "sha256:" + hex.EncodeToString(sum[:]); got != cfg.RootFS.DiffIDs[i] {
			return fmt.Errorf("layer %d is %s, the config has %s", i, got, cfg.RootFS.DiffIDs[i])
		}
	}
	return nil
}

// blob reads a blob from the rig's registry without asking IAM.
func (s *stage) blob(repo, digest string, unzip bool) ([]byte, error) {
	rec := httptest.NewRecorder()
	s.rig.Blobs(awsrig.Account).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v2/"+repo+"/blobs/"+digest, nil))
	if rec.Code != http.StatusOK {
		return nil, fmt.Errorf("blob %s of %s: status %d", digest, repo, rec.Code)
	}
	if !unzip {
		return rec.Body.Bytes(), nil
	}
	z, err := gzip.NewReader(rec.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
