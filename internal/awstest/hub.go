package awstest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/ecsbuild/ecsbuild/internal/localregistry"
)

// hub is a registry with token authentication, as Docker Hub has it.
type hub struct {
	mu              sync.Mutex
	registry        *localregistry.Registry
	user, password  string
	refuseAnonymous bool
	refuseBlobs     bool
	refuseAll       bool
	remaining       int // pulls
	wording         string
	tokens          map[string]bool // token → belongs to an account
}

// The two wordings of Docker Hub's refusal.
const (
	HubLimitOld = "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit"
	HubLimitNew = "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
)

func (h *hub) init(dir string) {
	h.registry, h.wording, h.remaining = localregistry.New(dir), HubLimitNew, 100
	if h.tokens == nil { // an engine keeps its tokens over a reset
		h.tokens = map[string]bool{}
	}
}

// HubAccount is the one account that Docker Hub knows.
func (r *Rig) HubAccount(user, password string) {
	r.hub.mu.Lock()
	r.hub.user, r.hub.password = user, password
	r.hub.mu.Unlock()
}

// RefuseAnonymousPulls has Docker Hub answer 429 to who has no account.
func (r *Rig) RefuseAnonymousPulls(wording string) {
	r.hub.mu.Lock()
	r.hub.refuseAnonymous, r.hub.wording = true, wording
	r.hub.mu.Unlock()
}

// RefuseAllPulls has Docker Hub answer 429 to its account as well.
func (r *Rig) RefuseAllPulls(wording string) {
	r.hub.mu.Lock()
	r.hub.refuseAll, r.hub.wording = true, wording
	r.hub.mu.Unlock()
}

// HubPullsLeft is what Docker Hub says of the pulls that remain.
func (r *Rig) HubPullsLeft(n int) { r.hub.mu.Lock(); r.hub.remaining = n; r.hub.mu.Unlock() }

// RefuseHubBlobs has Docker Hub give out manifests and no layers.
func (r *Rig) RefuseHubBlobs() { r.hub.mu.Lock(); r.hub.refuseBlobs = true; r.hub.mu.Unlock() }

// Hub takes images without asking; tests fill it by go-containerregistry.
func (r *Rig) Hub() http.Handler { return r.hub.registry }

func (r *Rig) hubServe(w http.ResponseWriter, req *http.Request) {
	h := &r.hub
	if f := r.fault(Request{Action: hubAction(req)}); f != nil {
		rec := &statusWriter{ResponseWriter: w, digest: f.Digest}
		w = rec
		if f.apply(rec, req, registryError) {
			return
		}
	}
	if req.Host == "auth.docker.io" {
		h.token(w, req)
		return
	}
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	h.mu.Lock()
	account, known := h.tokens[token]
	refuse := h.refuseAll || h.refuseAnonymous && !account
	wording, noBlobs, remaining := h.wording, h.refuseBlobs, h.remaining
	h.mu.Unlock()
	if !known {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://auth.docker.io/token",service="registry.docker.io"`)
		registryError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return
	}
	q := Request{Action: "hub", Method: req.Method, Path: strings.TrimPrefix(req.URL.Path, "/v2/"), Anonymous: !account}
	if strings.HasPrefix(q.Path, "ratelimitpreview/test/") {
		w.Header().Set("Ratelimit-Limit", "100;w=21600")
		w.Header().Set("Ratelimit-Remaining", fmt.Sprintf("%d;w=21600", remaining))
		r.record(q.with(http.StatusOK))
		return
	}
	if refuse && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/") {
		r.record(q.with(http.StatusTooManyRequests))
		registryError(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", wording)
		return
	}
	if noBlobs && strings.Contains(req.URL.Path, "/blobs/") {
		registryError(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
		return
	}
	rec := &statusWriter{ResponseWriter: w}
	h.registry.ServeHTTP(rec, req)
	q.Answered = rec.written
	r.record(q.with(rec.status))
}

// HubActions are the requests to Docker Hub that can meet a fault. That for a token is not among
// them: an engine keeps the one that it has.
var HubActions = []string{"hub: manifest", "hub: blob"}

func hubAction(req *http.Request) string {
	switch {
	case strings.Contains(req.URL.Path, "/manifests/"):
		return HubActions[0]
	case strings.Contains(req.URL.Path, "/blobs/"):
		return HubActions[1]
	}
	return ""
}

// token returns one to anybody, and an account's to who knows its password, by
// GET with basic authentication or by OAuth2's POST.
func (h *hub) token(w http.ResponseWriter, req *http.Request) {
	user, password, ok := req.BasicAuth()
	if req.Method == http.MethodPost {
		user, password = req.FormValue("username"), req.FormValue("password")
		ok = user != ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if ok && (user != h.user || password != h.password || h.user == "") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"details":"incorrect username or password"}`)
		return
	}
	token := rand.Text()
	h.tokens[token] = ok
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 300})
}
