package credentials

import (
	"context"
	"fmt"
	"sync"

	"github.com/ecsbuild/ecsbuild/internal/dockerconfig"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
)

// Accounts finds the account for each registry that base images come from: the
// configured ones, then those that docker itself is logged in with. It remembers
// which one each registry was asked with, for the diagnosis of a refused pull.
type Accounts struct {
	Docker *dockerconfig.File // nil for no look at docker's own
	Note   progress.NoteFunc
	Masked *redact.Set

	mu         sync.Mutex
	configured map[string]plan.Account
	docker     map[string]func() (plan.Account, bool) // those that were asked for
	used       map[string]plan.Account
	why        string // why Docker Hub has no account, "" where it has one
	err        error  // what stands behind that, or nil
}

// configure takes the account of a registry from the configuration.
func (a *Accounts) configure(host string, account plan.Account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.configured == nil {
		a.configured = map[string]plan.Account{}
	}
	a.configured[host] = account
}

// Login returns the account for a host; ok is false for anonymous.
func (a *Accounts) Login(ctx context.Context, host string) (plan.Account, bool) {
	host = plan.CanonicalHost(host)
	a.mu.Lock()
	account, ok := a.configured[host]
	ask := a.docker[host]
	if !ok && ask == nil && a.Docker != nil {
		// The first who asks has the answer looked up; its end ends nobody else's.
		ask = sync.OnceValues(func() (plan.Account, bool) { return a.fromDocker(context.WithoutCancel(ctx), host) })
		if a.docker == nil {
			a.docker = map[string]func() (plan.Account, bool){}
		}
		a.docker[host] = ask
	}
	a.mu.Unlock()
	if !ok && ask != nil {
		account, ok = ask()
	}
	if ok {
		a.use(host, account)
	}
	return account, ok
}

// use remembers the account that a host is asked with.
func (a *Accounts) use(host string, account plan.Account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used == nil {
		a.used = map[string]plan.Account{}
	}
	a.used[host] = account
}

func (a *Accounts) fromDocker(ctx context.Context, host string) (plan.Account, bool) {
	account, ok, err := a.Docker.Account(ctx, host)
	if err != nil {
		a.Note(progress.Warning, fmt.Sprintf("docker's account for %s cannot be read, so it is asked anonymously: %v", host,
			err))
	}
	if ok {
		a.Masked.Add(account.Password.Reveal())
	}
	return account, ok
}

// Used is the account that a host was asked with; ok is false for anonymous.
func (a *Accounts) Used(host string) (account plan.Account, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	account, ok = a.used[plan.CanonicalHost(host)]
	return account, ok
}

// Anonymous says why Docker Hub is asked without an account, "" where it has one,
// and the error behind that, or nil.
func (a *Accounts) Anonymous() (why string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.why, a.err
}

func (a *Accounts) anonymous(why string, err error) {
	a.mu.Lock()
	a.why, a.err = why, err
	a.mu.Unlock()
}
