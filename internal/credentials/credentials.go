// Package credentials gets what opens registries: ECR's token, accounts from SSM, Secrets Manager, the environment and docker login, and the secrets of builds.
package credentials

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/baseimage"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// Source is where credentials come from.
type Source struct {
	Plan     *plan.Plan
	AWS      func(ctx context.Context) (*aws.Client, error)
	Cache    string // folder of the host state, "" for none
	Agent    string // User-Agent of requests to the registry
	Note     progress.NoteFunc
	Begin    func(image string, kind report.Kind, name string, size int64) *progress.Span
	Accounts *Accounts
	Masked   *redact.Set // hears of every secret
}

// FromAWS asks ECR for its token and the stores for every parameter and
// secret of the plan, side by side.
func (s Source) FromAWS(ctx context.Context) (*pipeline.Backends, error) {
	a, err := s.AWS(ctx)
	if err != nil {
		return nil, err
	}
	var token aws.Token
	var asked, assumed aws.Values
	var wg sync.WaitGroup
	var errs [3]error
	wg.Go(func() { token, errs[0] = s.token(ctx, a, "") })
	stores := a.InRegion(s.Plan.CallerRegion)
	wg.Go(func() { asked, errs[1] = stores.Fetch(ctx, s.sources(false)) })
	wg.Go(func() { assumed, errs[2] = stores.Fetch(ctx, s.sources(true)) })
	wg.Wait()
	if err := errors.Join(errs[:2]...); err != nil {
		return nil, err
	}
	if errs[2] != nil {
		s.withoutHub(ctx, errs[2])
	}
	authorize := func(ctx context.Context, expired string) (string, string, error) {
		t, err := s.token(ctx, a, expired)
		return t.Username, t.Password.Reveal(), err
	}
	c := s.credentials(asked, assumed)
	c.Registry = registry.NewClient(token.Host.ForAccount(s.Plan.Account), authorize, s.Agent, s.watch)
	other := c.Login
	c.Login = func(ctx context.Context, host string) (plan.Account, bool) {
		get := a.Token
		if host == token.Host.Name && s.Plan.Public {
			get = a.PublicToken
		}
		if host == token.Host.Name || host == c.Registry.Host.Name || registry.IsECR(host, a.Region()) {
			t, err := s.masked(get(ctx, ""))
			account := plan.Account{Username: t.Username, Password: t.Password, From: "ECR's token for the caller"}
			s.Accounts.use(host, account)
			return account, err == nil
		}
		return other(ctx, host)
	}
	c.State = hoststate.Open(s.Cache)
	c.Bases = baseimage.New(c.Login, s.Agent, c.State)
	c.ECR = &ecr{source: s, client: a, registry: c.Registry}
	return c, nil
}

// token gets the token of the plan's registry.
func (s Source) token(ctx context.Context, a *aws.Client, expired string) (aws.Token, error) {
	if s.Plan.Public {
		return s.masked(a.PublicToken(ctx, expired))
	}
	return s.masked(a.Token(ctx, expired))
}

// masked has nothing show a token.
func (s Source) masked(t aws.Token, err error) (aws.Token, error) {
	if err == nil {
		s.mask(t.Username, t.Password)
	}
	return t, err
}

// mask keeps a password out of what is shown, also as registries are sent it.
func (s Source) mask(user string, password plan.Secret) {
	s.Masked.Add(password.Reveal())
	s.Masked.Add(base64.StdEncoding.EncodeToString([]byte(user + ":" + password.Reveal())))
}

// ecr is pipeline.ECR for the plan's account.
type ecr struct {
	source   Source
	client   *aws.Client
	registry *registry.Client
}

func (e *ecr) CreateRepository(ctx context.Context, img plan.Image) error {
	e.source.Note(progress.Info, "creating the repository "+img.Repository)
	if e.source.Plan.Public {
		return e.client.CreatePublicRepository(ctx, img)
	}
	return e.client.CreateRepository(ctx, e.source.Plan.Account, img)
}

func (e *ecr) CheckTagsFree(ctx context.Context, img plan.Image) error {
	return e.client.CheckTagsFree(ctx, e.source.Plan.Account, img)
}

func (e *ecr) TagCount(ctx context.Context, img plan.Image, d digest.Digest) int {
	if e.source.Plan.Public {
		return 0
	}
	n, _ := e.client.TagCount(ctx, e.source.Plan.Account, img.Repository, d)
	return n
}

func (e *ecr) TagStates(ctx context.Context, images []plan.Image) map[string]registry.TagState {
	if e.source.Plan.Public {
		return nil // its tags may always be moved
	}
	look := func(ctx context.Context, repository, tag string) (digest.Digest, error) {
		return e.registry.Repository(repository).TagDigest(ctx, tag)
	}
	return e.client.TagStates(ctx, look, e.source.Plan.Account, images)
}

// WithoutAWS serves --dry-run and --local: AWS is asked only where the plan
// names a parameter or secret, and what cannot be read is a warning.
func (s Source) WithoutAWS(ctx context.Context, host registry.Host) (*pipeline.Backends, error) {
	var asked aws.Values
	if sources := s.sources(false); len(sources) > 0 {
		aws, err := s.AWS(ctx)
		if err == nil {
			asked, err = aws.InRegion(s.Plan.CallerRegion).Fetch(ctx, sources)
		}
		if err != nil {
			s.Note(progress.Warning, "this run goes on without "+sourceNames(sources)+": "+err.Error())
		}
	}
	if len(s.sources(true)) > 0 && !s.hubLogin(ctx) {
		s.Accounts.anonymous("this run does not ask AWS, DOCKER_USER and DOCKER_PASSWORD are not set, and docker is not logged in there", nil)
	}
	c := s.credentials(asked, nil)
	c.Registry = registry.NewClient(host, nil, s.Agent, s.watch)
	c.State = hoststate.Open(s.Cache)
	c.Bases = baseimage.New(c.Login, s.Agent, c.State)
	return c, nil
}

// watch tells of uploads under the image that came first of a repository.
func (s Source) watch(repository, what string, size int64) *progress.Span {
	for _, img := range s.Plan.Images {
		if img.Repository == repository {
			return s.Begin(img.Name(), report.Upload, what, size)
		}
	}
	return nil
}

// Named lists the parameters and secrets that the plan asks for by name.
func (s Source) Named() []plan.Source { return s.sources(false) }

// sources lists what AWS must be asked for: what the plan names, or what
// everybody's setup has and this one may not.
func (s Source) sources(assumed bool) (out []plan.Source) {
	add := func(src plan.Source) {
		if src.Kind == plan.FromSSM || src.Kind == plan.FromSecretsManager {
			out = append(out, src)
		}
	}
	for _, l := range s.Plan.Logins {
		if l.Assumed == assumed {
			add(l.Username)
			add(l.Password)
		}
	}
	if !assumed {
		for _, img := range s.Plan.Images {
			for _, src := range img.Build.Secrets {
				add(src)
			}
		}
	}
	return out
}

func sourceNames(sources []plan.Source) string {
	var names []string
	for _, s := range sources {
		names = append(names, s.String())
	}
	return strings.Join(names, ", ")
}

// hubLogin says whether docker itself is logged in to Docker Hub, in a line where
// it is.
func (s Source) hubLogin(ctx context.Context) bool {
	account, ok := s.Accounts.Login(ctx, plan.DockerHub)
	if ok && s.Note != nil {
		s.Note(progress.Info, "base images are pulled from Docker Hub with "+account.String())
	}
	return ok
}

// withoutHub is for parameters that are not there, or refused: docker's own
// account is used, or a line says that Docker Hub is asked anonymously.
func (s Source) withoutHub(ctx context.Context, err error) {
	if s.hubLogin(ctx) {
		return
	}
	why := err.Error()
	var missing *aws.MissingError
	var refused *aws.Error
	switch {
	case errors.As(err, &missing):
		why = fmt.Sprintf("the parameters %s do not exist in %s", strings.Join(missing.Names, " and "), missing.Region)
	case errors.As(err, &refused) && refused.IsKMS():
		why = "KMS refused to decrypt DOCKER_HUB_PASSWORD"
	case errors.As(err, &refused) && refused.IsDenied():
		why = fmt.Sprintf("%s was refused for DOCKER_HUB_ID and DOCKER_HUB_PASSWORD", refused.Action)
	}
	s.Accounts.anonymous(why, err)
	s.Note(progress.Warning, "base images are pulled from Docker Hub anonymously: "+why)
}

func (s Source) credentials(asked, assumed aws.Values) *pipeline.Backends {
	for _, l := range s.Plan.Logins {
		values := asked
		if l.Assumed {
			values = assumed
		}
		user, ok1 := values.Of(l.Username)
		password, ok2 := values.Of(l.Password)
		if ok1 && ok2 {
			s.Accounts.configure(l.Host, s.account(l, user, password))
		}
	}
	for _, img := range s.Plan.Images {
		for _, src := range img.Build.Secrets {
			if v, ok := asked.Of(src); ok {
				s.Masked.Add(v.Reveal())
			}
		}
	}
	return &pipeline.Backends{
		Masked: s.Masked,
		Login:  s.Accounts.Login,
		Secrets: func(img plan.Image) map[string]plan.Secret {
			out := map[string]plan.Secret{}
			for id, src := range img.Build.Secrets {
				if v, ok := asked.Of(src); ok {
					out[id] = v
				}
			}
			return out
		},
	}
}

// account takes user name and password as docker login does, without white space
// around them, such as the newline at the end of a parameter.
func (s Source) account(l plan.Login, user, password plan.Secret) plan.Account {
	trimmed := func(what string, from plan.Source, v plan.Secret) string {
		text := strings.TrimSpace(v.Reveal())
		if text != v.Reveal() && s.Note != nil {
			s.Note(progress.Info, fmt.Sprintf("the %s for %s (%s) has white space around it, which is removed", what, l.Host,
				from))
		}
		return text
	}
	a := plan.Account{Username: trimmed("user name", l.Username, user), From: l.Username.String()}
	a.Password = plan.NewSecret(trimmed("password", l.Password, password))
	if l.Username.Kind == plan.FromValue {
		a.From = l.Password.String()
	}
	s.mask(a.Username, a.Password)
	return a
}
