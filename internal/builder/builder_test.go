package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/enginetest"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/localregistry"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect starts an engine, and closes the connection before the engine ends.
func connect(t *testing.T, fake *enginetest.Engine, buildkit bool) *Engine {
	t.Helper()
	docker, bk := fake.Start(t)
	ep := endpoint.Endpoint{Docker: docker}
	if buildkit {
		ep = endpoint.Endpoint{BuildKit: bk}
	}
	e, err := Connect(t.Context(), ep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// repository is one of a registry on loopback.
func repository(t *testing.T) *registry.Repository {
	t.Helper()
	s := httptest.NewServer(localregistry.New(t.TempDir()))
	t.Cleanup(s.Close)
	host, err := registry.ParseHost(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := registry.NewClient(host, nil, "test", nil)
	t.Cleanup(c.Close)
	return c.Repository("shop")
}

// job is one that builds a folder of a few files.
func job(t *testing.T, change func(*Job)) Job {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"Dockerfile": "FROM scratch\nCOPY app /app\nRUN make\n", "app": "content",
		"out.json": "[]"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img := plan.Image{Containers: []string{"web"}, Repository: "shop", Tags: []string{"v1", "latest"},
		Build: plan.Build{Context: dir, Dockerfile: filepath.Join(dir, "Dockerfile")}}
	file, err := dockerfile.Read(img)
	if err != nil {
		t.Fatal(err)
	}
	j := Job{
		Image: img, Dockerfile: file, Store: repository(t), State: hoststate.Open(t.TempDir()), Masked: &redact.Set{},
		Refs: []image.Ref{{Registry: "registry.example", Repository: "shop", Tag: "v1"},
			{Registry: "registry.example", Repository: "shop", Tag: "latest"}},
		Login: func(context.Context, string) (plan.Account, bool) { return plan.Account{}, false },
		Note:  func(progress.Severity, string) {}, Status: func(*progress.BuildStatus) {},
		Begin: func(report.Kind, string) *progress.Span {
			return nil
		},
	}
	if change != nil {
		change(&j)
	}
	return j
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(2000, 2, random.WithSource(rand.NewSource(1)))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestBuildRequest: what the plan says is what BuildKit is asked for, and the session
// answers for the rest.
func TestBuildRequest(t *testing.T) {
	extra := t.TempDir()
	var got map[string]string
	fake := &enginetest.Engine{Containerd: true,
		Labels: map[string]string{"org.mobyproject.buildkit.worker.moby.host-gateway-ip": "172.17.0.1"}}
	fake.Build = func(ctx context.Context, b *enginetest.Build) (map[string]string, error) {
		got = b.Attrs
		if user, password, err := b.Credentials("registry.example"); err != nil || user != "u" || password != "p" {
			t.Errorf("the account is %s %s, %v", user, password, err)
		}
		if user, _, err := b.Credentials("elsewhere.example"); err != nil || user != "" {
			t.Errorf("another registry's account is %s, %v", user, err)
		}
		if value, err := b.Secret("npm"); err != nil || value != "s3cr3t" {
			t.Errorf("the secret is %q, %v", value, err)
		}
		if _, err := b.Secret("other"); err == nil {
			t.Error("a secret that nobody has given")
		}
		into := filepath.Join(t.TempDir(), "c")
		if err := b.Files("context", into); err != nil {
			t.Error(err)
		}
		if data, err := os.ReadFile(filepath.Join(into, "app")); err != nil || string(data) != "content" {
			t.Errorf("app is %q, %v", data, err)
		}
		if _, err := os.Stat(filepath.Join(into, "out.json")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("an output of the run is in the context: %v", err)
		}
		return nil, nil
	}
	e := connect(t, fake, false)
	e.UseProxies(map[string]string{"HTTP_PROXY": "http://me:hidden@proxy:1", "NO_PROXY": "a"}, &redact.Set{})
	if e.Proxies()["NO_PROXY"] != "a" {
		t.Errorf("%v", e.Proxies())
	}
	j := job(t, func(j *Job) {
		j.Keep = true
		j.Excluded = []string{filepath.Join(j.Image.Build.Context, "out.json")}
		j.Secrets = map[string]plan.Secret{"npm": plan.NewSecret("s3cr3t")}
		j.Login = func(_ context.Context, host string) (plan.Account, bool) {
			return plan.Account{Username: "u", Password: plan.NewSecret("p")}, host == "registry.example"
		}
		b := &j.Image.Build
		b.Target, b.Platforms, b.Args, b.Labels = "prod", []string{"linux/amd64", "linux/arm64"}, map[string]string{"A": "1",
			"no_proxy": "b"}, map[string]string{"l": "v"}
		b.ExtraHosts, b.Network, b.ShmSize, b.NoCache, b.Pull = []string{"db=10.0.0.1",
			"host=host-gateway"}, "none", 64<<20, true, true
		b.AdditionalContexts = map[string]string{"base": "docker-image://alpine:3", "extra": extra, "context": extra}
		b.CacheFrom = []string{"type=registry,ref=registry.example/cache"}
	})
	if _, err := e.Build(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"target": "prod", "platform": "linux/amd64,linux/arm64", "build-arg:A": "1", "build-arg:no_proxy": "b", "build-arg:HTTP_PROXY": "http://me:hidden@proxy:1",
		"label:l": "v", "add-hosts": "db=10.0.0.1,host=172.17.0.1", "force-network-mode": "none", "shm-size": "67108864", "no-cache": "", "image-resolve-mode": "pull",
		"filename": "Dockerfile", "context:base": "docker-image://alpine:3", "context:extra": "local:extra", "context:context": "local:_context",
	}
	for k := range got {
		if strings.HasPrefix(k, "cache-") {
			delete(got, k)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestRemoteContext is fetched by BuildKit itself.
func TestRemoteContext(t *testing.T) {
	var got map[string]string
	e := connect(t, &enginetest.Engine{Build: func(_ context.Context, b *enginetest.Build) (map[string]string, error) {
		got = b.Attrs
		return nil, nil
	}}, true)
	_, err := e.Build(t.Context(), job(t, func(j *Job) {
		j.Keep, j.Dockerfile = true, nil
		j.Image.Build.Context, j.Image.Build.Dockerfile = "https://example.com/x.git", "deploy/Dockerfile"
	}))
	if diff := cmp.Diff(map[string]string{"context": "https://example.com/x.git", "filename": "deploy/Dockerfile"},
		got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestHostGateway: an engine that does not name it is refused.
func TestHostGateway(t *testing.T) {
	e := connect(t, &enginetest.Engine{}, true)
	_, err := e.Build(t.Context(), job(t, func(j *Job) { j.Keep = true; j.Image.Build.ExtraHosts = []string{"a=host-gateway"} }))
	var u *UnsupportedError
	if !errors.As(err, &u) || !strings.Contains(u.Error(), "buildkitd v0.34.2 cannot do extra_hosts with host-gateway") {
		t.Errorf("%v", err)
	}
}

// failingStore refuses every blob, after cancel.
type failingStore struct {
	image.Store
	cancel func()
}

func (s failingStore) Put(context.Context, digest.Digest, int64, func() (io.ReadCloser, error)) error {
	s.cancel()
	return errors.New("the connection was closed")
}

func (s failingStore) Stream(context.Context, digest.Digest, io.Reader) (func(context.Context, digest.Digest) error,
	error) {
	s.cancel()
	return nil, errors.New("the connection was closed")
}

// TestCanceledUpload: of an upload that fails since the run was stopped, the reason is the
// error, too.
func TestCanceledUpload(t *testing.T) {
	img := mutate.MediaType(mutate.ConfigMediaType(randomImage(t), types.OCIConfigJSON), types.OCIManifestSchema1)
	fake := &enginetest.Engine{Containerd: true}
	fake.Build = func(ctx context.Context, b *enginetest.Build) (map[string]string, error) { return export(ctx, b, img) }
	e := connect(t, fake, false)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("another image failed")
	j := job(t, nil)
	j.Store = failingStore{j.Store, func() { cancel(reason) }}
	if _, err := e.Build(ctx, j); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
}

// TestSharedContext: two jobs that read the same send it once.
func TestSharedContext(t *testing.T) {
	var mu sync.Mutex
	ids := map[string]int{}
	fake := &enginetest.Engine{Containerd: true,
		Build: func(_ context.Context, b *enginetest.Build) (map[string]string, error) {
			mu.Lock()
			defer mu.Unlock()
			ids[b.Attrs["local-sessionid:context"]]++
			return nil, nil
		}}
	e := connect(t, fake, false)
	a := job(t, func(j *Job) { j.Keep = true })
	b, c := a, job(t, func(j *Job) { j.Keep = true })
	b.Image.Containers, c.Image.Containers = []string{"worker"}, []string{"other"}
	jobs := []*Job{&a, &b, &c}
	ShareContexts(jobs)
	for _, j := range jobs {
		if _, err := e.Build(t.Context(), *j); err != nil {
			t.Fatal(err)
		}
	}
	if len(ids) != 2 || ids[""] != 1 {
		t.Errorf("%v", ids)
	}
}

// TestLostCache: a cache that cannot be read costs a line.
func TestLostCache(t *testing.T) {
	fake := &enginetest.Engine{Containerd: true,
		Build: func(_ context.Context, b *enginetest.Build) (map[string]string, error) {
			b.End("importing cache manifest from r.example/a", "r.example/a: not found")
			b.End("importing cache manifest from r.example/b", "denied")
			b.End("exporting cache to registry", "denied")
			if strings.Join(b.CacheImports, " ") != "registry" || strings.Join(b.CacheExports, " ") != "registry" {
				t.Errorf("%v %v", b.CacheImports, b.CacheExports)
			}
			return nil, errors.New("enough")
		}}
	var notes []string
	_, _ = connect(t, fake, false).Build(t.Context(), job(t, func(j *Job) {
		j.Image.Build.CacheFrom, j.Image.Build.CacheTo = []string{"r.example/a"}, []string{"type=registry,ref=r.example/a"}
		j.Note = func(s progress.Severity, text string) { notes = append(notes, fmt.Sprint(s, " ", text)) }
	}))
	want := []string{
		"0 there is no cache at r.example/a yet",
		"1 the cache r.example/b was not read, which in ECR needs ecr:BatchGetImage and ecr:GetDownloadUrlForLayer, and the image: denied",
		"1 the cache was not written, which in ECR needs what a push needs, and ecr:BatchGetImage: denied",
	}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Error(diff)
	}
}

// TestUnreadableName names the file that BuildKit's protocol cannot carry.
func TestUnreadableName(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "caf\xe9"), nil, 0o644); err != nil {
		t.Skip("this file system takes no such name")
	}
	img := plan.Image{Containers: []string{"web"}, Build: plan.Build{Context: dir}}
	if err := unreadableName(img, errors.New("string field contains invalid UTF-8")); err == nil ||
		!strings.Contains(err.Error(), `caf\xe9`) {
		t.Errorf("%v", err)
	}
	if err := unreadableName(img, status.Error(codes.Canceled, "context canceled")); err == nil {
		t.Error("what BuildKit says after it does not name it")
	}
	if err := unreadableName(img, errors.New("another")); err != nil {
		t.Errorf("%v", err)
	}
	img.Build.Context = t.TempDir()
	if err := unreadableName(img, errors.New("invalid UTF-8")); err != nil {
		t.Errorf("%v", err)
	}
}
