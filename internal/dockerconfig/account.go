package dockerconfig

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// auth is an entry of auths, as docker login leaves it.
type auth struct {
	Auth          string `json:"auth"` // base64 of user:password
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
}

// tokenUser stands in a credential store's answer where the secret is an identity token.
const tokenUser = "<token>"

// Account returns the account that docker would use for a registry's host; ok is
// false for none. It reads, and writes nothing: DOCKER_AUTH_CONFIG first, then
// the host's credential helper, the credential store, and auths.
// https://docs.docker.com/reference/cli/docker/login/#credential-stores
func (c *File) Account(ctx context.Context, host string) (a plan.Account, ok bool, err error) {
	key := serverKey(host)
	if a, ok := fromAuths(c.environment, key); ok {
		a.From = "DOCKER_AUTH_CONFIG"
		return a, true, nil
	}
	if h := c.helper(key); h != "" {
		return askHelper(ctx, h, key)
	}
	if a, ok := fromAuths(c.auths, key); ok {
		a.From = "docker login"
		return a, true, nil
	}
	return plan.Account{}, false, nil
}

// serverKey is what the docker client calls a registry by.
func serverKey(host string) string {
	if plan.CanonicalHost(host) == plan.DockerHub {
		return hubKey
	}
	return host
}

// fromAuths looks for a server, by its name or as an older docker wrote it, with
// scheme and path.
func fromAuths(auths map[string]json.RawMessage, key string) (plan.Account, bool) {
	if a, ok := decodeAuth(auths[key]); ok {
		return a, true
	}
	for _, name := range slices.Sorted(maps.Keys(auths)) {
		if hostOf(name) == hostOf(key) {
			if a, ok := decodeAuth(auths[name]); ok {
				return a, true
			}
		}
	}
	return plan.Account{}, false
}

// hostOf leaves scheme and path of a server's name out.
func hostOf(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
	host, _, _ := strings.Cut(name, "/")
	return host
}

func decodeAuth(raw json.RawMessage) (plan.Account, bool) {
	var e auth
	if raw == nil || json.Unmarshal(raw, &e) != nil {
		return plan.Account{}, false
	}
	if e.IdentityToken != "" {
		return plan.Account{Password: plan.NewSecret(e.IdentityToken)}, true
	}
	if e.Auth != "" {
		pair, err := base64.StdEncoding.DecodeString(e.Auth)
		user, password, ok := strings.Cut(string(pair), ":")
		if err != nil || !ok || user == "" {
			return plan.Account{}, false
		}
		e.Username, e.Password = user, strings.Trim(password, "\x00") // as docker reads it
	}
	return plan.Account{Username: e.Username, Password: plan.NewSecret(e.Password)}, e.Username != ""
}

// helperTimeout is for a credential store that asks somebody, or hangs.
const helperTimeout = 20 * time.Second

// askHelper asks a credential store for an account.
// https://github.com/docker/docker-credential-helpers
func askHelper(ctx context.Context, helper, key string) (a plan.Account, ok bool, err error) {
	name := "docker-credential-" + helper
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, "get")
	cmd.WaitDelay = time.Second // a child of its own may keep the pipe
	cmd.Stdin = strings.NewReader(key)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	text := strings.TrimSpace(string(out))
	switch {
	case ctx.Err() != nil:
		return a, false, fmt.Errorf("%s did not answer within %v", name, helperTimeout)
	case err != nil && (strings.Contains(text, "credentials not found") ||
		strings.Contains(text, "no credentials server URL")):
		return a, false, nil // the answer of a store that has none
	case err != nil:
		if strings.Contains(text, "{") {
			text = "" // an answer, which holds a secret
		}
		if text == "" {
			text = strings.TrimSpace(said.String())
		}
		if text == "" {
			text = err.Error()
		}
		return a, false, fmt.Errorf("%s: %s", name, text)
	}
	var answer struct{ Username, Secret string }
	if text != "" && json.Unmarshal(out, &answer) != nil {
		return a, false, fmt.Errorf("%s answers something that is not JSON", name)
	}
	if answer.Secret == "" {
		return a, false, nil
	}
	a = plan.Account{Username: answer.Username, Password: plan.NewSecret(answer.Secret), From: name}
	if a.Username == tokenUser {
		a.Username = ""
	}
	return a, true, nil
}

// Proxies are the build arguments that docker build adds for an engine, from
// proxies in config.json. An entry for the engine's address stands in the place of
// default. BuildKit gives RUN both spellings of each.
// https://docs.docker.com/engine/cli/proxy/
// A nil File has none.
func (c *File) Proxies(engine string) map[string]string {
	if c == nil {
		return nil
	}
	var all map[string]struct{ HTTPProxy, HTTPSProxy, NoProxy, FTPProxy, AllProxy string }
	if json.Unmarshal(c.fields["proxies"], &all) != nil {
		return nil
	}
	p, ok := all[engine]
	if !ok {
		p = all["default"]
	}
	out := map[string]string{}
	for name, value := range map[string]string{"HTTP_PROXY": p.HTTPProxy, "HTTPS_PROXY": p.HTTPSProxy,
		"NO_PROXY": p.NoProxy, "FTP_PROXY": p.FTPProxy, "ALL_PROXY": p.AllProxy} {
		if value != "" {
			out[name] = value
		}
	}
	return out
}
