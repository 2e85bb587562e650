package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// Login gives the account for a registry's host; ok is false for anonymous.
type Login func(ctx context.Context, host string) (user string, password plan.Secret, ok bool)

// authProvider answers BuildKit's questions for credentials from memory. The
// stock one would write a token seed into docker's configuration folder.
type authProvider struct {
	auth.UnimplementedAuthServer
	login Login
}

func (p *authProvider) Register(s *grpc.Server) { auth.RegisterAuthServer(s, p) }

func (p *authProvider) Credentials(ctx context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	user, password, ok := p.login(ctx, req.Host)
	if !ok {
		return &auth.CredentialsResponse{}, nil
	}
	return &auth.CredentialsResponse{Username: user, Secret: password.Reveal()}, nil
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
	if len(r.Image.Build.SSH) > 0 {
		var agents []sshprovider.AgentConfig
		for _, s := range r.Image.Build.SSH {
			id, path, _ := strings.Cut(s, "=")
			a := sshprovider.AgentConfig{ID: id}
			if path != "" {
				a.Paths = []string{path}
			}
			agents = append(agents, a)
		}
		p, err := sshprovider.NewSSHAgentProvider(agents)
		if err != nil {
			return nil, &plan.Error{What: r.Image.Name() + ": ssh: " + err.Error(), Fix: "start an agent (ssh-agent, ssh-add), or name its socket or a key, as in default=/path/to/key"}
		}
		out = append(out, p)
	}
	return out, nil
}

// Contexts sends each folder that several images are built from through one
// session, so that BuildKit reads it once.
type Contexts struct {
	engine *Engine
	uses   map[string]int

	mu     sync.Mutex
	shared map[string]*session.Session
	wg     sync.WaitGroup
}

// NewContexts counts the uses of each folder.
func (e *Engine) NewContexts(images []plan.Image) *Contexts {
	c := &Contexts{engine: e, uses: map[string]int{}, shared: map[string]*session.Session{}}
	for _, img := range images {
		c.uses[img.Build.Context]++
	}
	return c
}

const contextName = "context"

// session gives the ID of the shared session for a folder, "" where the
// folder has one user only.
func (c *Contexts) session(dir string, fs fsutil.FS) (string, error) {
	if c.uses[dir] < 2 {
		return "", nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.shared[dir]; s != nil {
		return s.ID(), nil
	}
	// The session outlives a cancelled build; Close ends it.
	s, err := session.NewSession(context.Background(), sharedKey(dir))
	if err != nil {
		return "", err
	}
	s.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource{contextName: fs}))
	c.shared[dir] = s
	c.wg.Go(func() { _ = s.Run(context.Background(), c.engine.sessionDialer()) })
	return s.ID(), nil
}

// Close ends the shared sessions.
func (c *Contexts) Close() {
	c.mu.Lock()
	for _, s := range c.shared {
		_ = s.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// sharedKey lets BuildKit take what it kept of the same folder from the last
// run, and have only the changes sent.
func sharedKey(dir string) string {
	sum := sha256.Sum256([]byte("ecsbuild\x00" + dir))
	return hex.EncodeToString(sum[:])
}
