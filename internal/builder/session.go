package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/pkg/errors"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// Login gives the account for a registry's host; ok is false for anonymous.
type Login func(ctx context.Context, host string) (a plan.Account, ok bool)

// authProvider answers BuildKit's questions for credentials from memory. The
// stock one would write a token seed into docker's configuration folder.
type authProvider struct {
	auth.UnimplementedAuthServer
	login Login
}

func (p *authProvider) Register(s *grpc.Server) { auth.RegisterAuthServer(s, p) }

func (p *authProvider) Credentials(ctx context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	a, ok := p.login(ctx, req.Host)
	if !ok {
		return &auth.CredentialsResponse{}, nil
	}
	return &auth.CredentialsResponse{Username: a.Username, Secret: a.Password.Reveal()}, nil
}

// secretStore gives RUN --mount=type=secret its values.
type secretStore map[string]plan.Secret

func (s secretStore) GetSecret(_ context.Context, id string) ([]byte, error) {
	v, ok := s[id]
	if !ok {
		return nil, errors.WithStack(secrets.ErrNotFound)
	}
	return []byte(v.Reveal()), nil
}

// attachables are what one image's build may ask its session for.
func (r *Request) attachables() ([]session.Attachable, error) {
	out := []session.Attachable{&authProvider{login: r.Login}, secretsprovider.NewSecretProvider(secretStore(r.Secrets))}
	p, err := sshProvider(r.Image)
	if p != nil {
		out = append(out, p)
	}
	return out, err
}

// sshProvider gives a build the agents and keys that its image names; nil for none.
func sshProvider(img plan.Image) (session.Attachable, error) {
	if len(img.Build.SSH) == 0 {
		return nil, nil
	}
	var agents []sshprovider.AgentConfig
	for _, s := range img.Build.SSH {
		id, path, _ := strings.Cut(s, "=")
		a := sshprovider.AgentConfig{ID: id}
		if path != "" {
			a.Paths = []string{path}
		}
		agents = append(agents, a)
	}
	p, err := sshprovider.NewSSHAgentProvider(agents)
	if err != nil {
		return nil, &fault.Error{What: img.Name() + ": ssh: " + err.Error(),
			Fix: "start an agent (ssh-agent, ssh-add), or name its socket or a key, as in default=/path/to/key"}
	}
	return p, nil
}

// Contexts sends what several images read of one folder through one session,
// so that BuildKit fetches it once. Images that read different files of it have
// sessions of their own: BuildKit sends each just those, and keeps them apart
// for the next run.
type SharedSessions struct {
	engine *Engine
	keys   map[string]string // of each image, by its name
	uses   map[string]int

	mu     sync.Mutex
	shared map[string]*session.Session
	wg     sync.WaitGroup
}

// NewContexts finds the images that read the same.
func (e *Engine) ShareSessions(images []plan.Image) *SharedSessions {
	c := &SharedSessions{engine: e, keys: map[string]string{}, uses: map[string]int{}, shared: map[string]*session.Session{}}
	for _, img := range images {
		key := img.Name()
		if d, err := dockerfile.Read(img); err == nil {
			key = sharedKey(append([]string{img.Build.Context}, d.Reads...)...)
		}
		c.keys[img.Name()] = key
		c.uses[key]++
	}
	return c
}

// session gives the ID of the shared session for an image's context, "" where
// nobody shares it.
func (c *SharedSessions) session(img plan.Image, marked bool, fs fsutil.FS) (string, error) {
	key := c.keys[img.Name()]
	if c.uses[key] < 2 {
		return "", nil
	}
	key = sharedKey(key, strconv.FormatBool(marked))
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.shared[key]; s != nil {
		return s.ID(), nil
	}
	// The session outlives a cancelled build; Close ends it.
	s, err := session.NewSession(context.Background(), key)
	if err != nil {
		return "", err
	}
	s.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource{fingerprint.ContextName: fs}))
	c.shared[key] = s
	c.wg.Go(func() { _ = s.Run(context.Background(), c.engine.sessionDialer()) })
	return s.ID(), nil
}

// Close ends the shared sessions.
func (c *SharedSessions) Close() {
	c.mu.Lock()
	for _, s := range c.shared {
		_ = s.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// sharedKey lets BuildKit take what it kept of the same folders from the last
// run, and have only the changes sent. It compares files by size, time and mode
// alone: two sessions with one key must mount the same folders.
func sharedKey(dirs ...string) string {
	sum := sha256.Sum256([]byte("ecsbuild\x00" + strings.Join(dirs, "\x00")))
	return hex.EncodeToString(sum[:])
}

// folders are all that a build mounts from this machine, and the image's name:
// images that are built at once must not take each other's copies.
func folders(img plan.Image) []string {
	b := img.Build
	out := []string{img.Name(), b.Context, filepath.Dir(b.Dockerfile)}
	for _, name := range slices.Sorted(maps.Keys(b.AdditionalContexts)) {
		out = append(out, name+"="+b.AdditionalContexts[name])
	}
	return out
}
