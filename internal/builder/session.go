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

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// Login returns the account for a registry's host; ok is false for anonymous.
type Login func(ctx context.Context, host string) (a plan.Account, ok bool)

// authProvider answers BuildKit's questions for credentials from memory. The
// stock one would write a token seed into docker's configuration folder.
type authProvider struct {
	auth.UnimplementedAuthServer
	login Login
}

func (p *authProvider) Register(s *grpc.Server) { auth.RegisterAuthServer(s, p) }

func (p *authProvider) Credentials(ctx context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse,
	error) {
	a, ok := p.login(ctx, req.Host)
	if !ok {
		return &auth.CredentialsResponse{}, nil
	}
	return &auth.CredentialsResponse{Username: a.Username, Secret: a.Password.Reveal()}, nil
}

// secretStore returns RUN --mount=type=secret its values.
type secretStore map[string]plan.Secret

func (s secretStore) GetSecret(_ context.Context, id string) ([]byte, error) {
	v, ok := s[id]
	if !ok {
		return nil, errors.WithStack(secrets.ErrNotFound)
	}
	return []byte(v.Reveal()), nil
}

// attachables are what one image's build may ask its session for.
func (j *Job) attachables() ([]session.Attachable, error) {
	out := []session.Attachable{&authProvider{login: j.Login}, secretsprovider.NewSecretProvider(secretStore(j.Secrets))}
	p, err := sshProvider(j.Image)
	if p != nil {
		out = append(out, p)
	}
	return out, err
}

// sshProvider returns a build the agents and keys that its image names; nil for none.
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

// ShareContexts has jobs that read the same files of one folder send them through one
// session, so that BuildKit fetches them once. Those that read different files of it
// have sessions of their own: BuildKit sends each just those, and keeps them apart for
// the next run. So has one that writes a cache with its image: within one session BuildKit
// knows a context by the session, and not by what is in it, which is no key for a cache.
func ShareContexts(jobs []*Job) {
	uses := map[string]int{}
	for _, j := range jobs {
		if j.Dockerfile != nil && len(j.cacheExports()) == 0 {
			j.sharedContext = sharedKey(append([]string{j.Image.Build.Context}, j.Dockerfile.Reads...)...)
			uses[j.sharedContext]++
		}
	}
	for _, j := range jobs {
		if uses[j.sharedContext] < 2 {
			j.sharedContext = ""
		}
	}
}

// sharedSessions are the sessions that several builds of a run share.
type sharedSessions struct {
	dial session.Dialer

	mu       sync.Mutex
	sessions map[string]*session.Session
	wg       sync.WaitGroup
}

// get returns the ID of the shared session for a job's context, "" where nobody shares it. One
// that is built again gets another one, which sends what has changed since.
func (c *sharedSessions) get(j *Job, fs fsutil.FS) (string, error) {
	if j.sharedContext == "" {
		return "", nil
	}
	key := sharedKey(j.sharedContext, strconv.FormatBool(j.Inputs != nil))
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sessions[key]; s != nil && !j.again {
		return s.ID(), nil
	}
	// The session outlives a cancelled build; close ends it.
	s, err := session.NewSession(context.Background(), key)
	if err != nil {
		return "", err
	}
	s.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource{fingerprint.ContextName: fs}))
	if c.sessions == nil {
		c.sessions = map[string]*session.Session{}
	}
	if j.again {
		key = s.ID()
	}
	c.sessions[key] = s
	c.wg.Go(func() { _ = s.Run(context.Background(), c.dial) })
	return s.ID(), nil
}

// close ends the shared sessions.
func (c *sharedSessions) close() {
	c.mu.Lock()
	for _, s := range c.sessions {
		_ = s.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// sharedKey is the key of a session, by which BuildKit finds the files that an earlier run
// has sent, so that only changes are sent. It compares files by size, time and mode alone:
// two sessions with one key must mount the same folders.
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
