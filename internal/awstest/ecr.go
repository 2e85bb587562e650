package awstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/localregistry"
)

type repository struct {
	immutable bool
	except    []string // patterns of tags that move all the same
	tags      map[string]digest.Digest
	manifests map[string][]byte // by tag and by digest
	blobs     map[string]int64  // digests that arrived whole, with sizes
}

// AddRepository makes a repository of an account; ECR does not make them by
// itself.
func (r *Rig) AddRepository(account, name string, immutable bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repositories[account+"/"+name] = &repository{immutable: immutable, tags: map[string]digest.Digest{},
		manifests: map[string][]byte{}, blobs: map[string]int64{}}
}

// Tags returns the tags of a repository.
func (r *Rig) Tags(account, name string) map[string]digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]digest.Digest{}
	if repo := r.repositories[account+"/"+name]; repo != nil {
		for t, d := range repo.tags {
			out[t] = d
		}
	}
	return out
}

// Manifest returns what a tag points at, nil for nothing.
func (r *Rig) Manifest(account, name, tag string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if repo := r.repositories[account+"/"+name]; repo != nil {
		return repo.manifests[tag]
	}
	return nil
}

func (r *Rig) local(account string) *localregistry.Registry {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.registryHosts[account]
	if l == nil {
		l = localregistry.New(filepath.Join(r.Dir, "ecr", account))
		r.registryHosts[account] = l
	}
	return l
}

var ecrPath = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs/uploads|blobs)/([^/]*)$`)

// action maps a request to what IAM is asked.
func action(method, kind string) string {
	read := method == http.MethodGet || method == http.MethodHead
	switch {
	case kind == "manifests" && read:
		return "ecr:BatchGetImage"
	case kind == "manifests":
		return "ecr:PutImage"
	case kind == "blobs" && method == http.MethodHead:
		return "ecr:BatchCheckLayerAvailability"
	case kind == "blobs":
		return "ecr:GetDownloadUrlForLayer"
	case method == http.MethodPost:
		return "ecr:InitiateLayerUpload"
	case method == http.MethodPatch:
		return "ecr:UploadLayerPart"
	}
	return "ecr:CompleteLayerUpload"
}

// publicHost is ECR Public, whose repositories here are the account's of the same names,
// ALIAS/NAME.
const publicHost = "public.ecr.aws"

// ecr serves one account's registry, or ECR Public.
func (r *Rig) ecr(w http.ResponseWriter, req *http.Request, account string) {
	public := req.Host == publicHost
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if status, code, message := r.authenticate(req); status != 0 && public {
		w.Header().Set("WWW-Authenticate",
			`Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"`)
		r.record(Request{Action: "ecr-public:authenticate", Method: req.Method, Status: status})
		registryError(w, status, code, message)
		return
	} else if status != 0 {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Basic realm="https://%s/",service="ecr.amazonaws.com"`,
			r.Host(account)))
		r.record(Request{Action: "ecr:authenticate", Method: req.Method, Status: status})
		registryError(w, status, code, message)
		return
	}
	if req.URL.Path == "/v2/" {
		return
	}
	m := ecrPath.FindStringSubmatch(req.URL.Path)
	if m == nil {
		registryError(w, http.StatusNotFound, "UNSUPPORTED", "Not Found")
		return
	}
	q := Request{Action: action(req.Method, m[2]), Method: req.Method, Repository: m[1], Path: m[2] + "/" + m[3]}
	arn := fmt.Sprintf("arn:aws:ecr:%s:%s:repository/%s", r.Region, account, m[1])
	if public {
		_, name, _ := strings.Cut(m[1], "/")
		q.Action, arn = strings.Replace(q.Action, "ecr:", "ecr-public:", 1),
			fmt.Sprintf("arn:aws:ecr-public::%s:repository/%s", account, name)
	}
	if strings.HasSuffix(q.Action, ":PutImage") {
		r.mu.Lock()
		r.putTimes = append(r.putTimes, time.Now())
		r.mu.Unlock()
	}
	body := &countingBody{rc: req.Body}
	rec := &statusWriter{ResponseWriter: w}
	defer func() {
		q.Bytes, q.Answered, q.Status = body.n, rec.written, rec.status
		r.record(q)
		if p := recover(); p != nil {
			panic(p)
		}
	}()
	if f := r.fault(q); f != nil {
		body.cut, rec.digest = f.CutAfter, f.Digest
		if f.apply(rec, req, registryError) {
			return
		}
	}
	req.Body = body
	pull := req.Method == http.MethodGet || req.Method == http.MethodHead && m[2] == "manifests"
	if !(public && pull) && !r.allowed(q.Action, arn) {
		registryError(rec, http.StatusForbidden, "DENIED", refusal(q.Action, arn))
		return
	}
	r.mu.Lock()
	repo := r.repositories[account+"/"+m[1]]
	created := repo == nil && q.Action == "ecr:InitiateLayerUpload" &&
		slices.ContainsFunc(r.createOnPush, func(prefix string) bool { return strings.HasPrefix(m[1], prefix+"/") })
	r.mu.Unlock()
	if created {
		r.AddRepository(account, m[1], false)
		r.mu.Lock()
		repo = r.repositories[account+"/"+m[1]]
		r.mu.Unlock()
	}
	if repo == nil {
		registryError(rec, http.StatusNotFound, "NAME_UNKNOWN",
			fmt.Sprintf("The repository with name '%s' does not exist in the registry with id '%s'", m[1], account))
		return
	}
	r.serveRepository(rec, req, account, repo, m[1], m[2], m[3])
}

func (r *Rig) serveRepository(w *statusWriter, req *http.Request, account string, repo *repository, name, kind,
	last string) {
	local := r.local(account)
	switch {
	case kind == "manifests" && req.Method == http.MethodPut:
		r.putManifest(w, req, account, repo, name, last)
	case kind == "blobs/uploads" && req.Method == http.MethodPost && req.URL.Query().Get("mount") != "":
		d := req.URL.Query().Get("mount")
		r.mu.Lock()
		mounting := r.mounting
		r.mu.Unlock()
		if !mounting {
			req.URL.RawQuery = ""
		}
		local.ServeHTTP(w, req)
		if w.status == http.StatusCreated {
			r.mu.Lock()
			repo.blobs[d] = 0
			r.mu.Unlock()
		}
	case kind == "blobs/uploads" && req.Method == http.MethodPatch:
		w.rewrite = map[int]int{http.StatusAccepted: http.StatusCreated} // as ECR answers
		local.ServeHTTP(w, req)
	case kind == "blobs/uploads":
		d := req.URL.Query().Get("digest")
		local.ServeHTTP(w, req)
		if req.Method == http.MethodPut && w.status == http.StatusCreated {
			r.mu.Lock()
			repo.blobs[d] = 0
			r.mu.Unlock()
		}
	case kind == "blobs" && req.Method == http.MethodHead && !r.whole(repo, last):
		registryError(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
	default:
		local.ServeHTTP(w, req)
	}
}

// Has says whether a blob is in a repository.
func (r *Rig) Has(account, name, blob string) bool {
	r.mu.Lock()
	repo := r.repositories[account+"/"+name]
	r.mu.Unlock()
	return repo != nil && r.whole(repo, blob)
}

func (r *Rig) whole(repo *repository, blob string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := repo.blobs[blob]
	return ok
}

func (r *Rig) putManifest(w http.ResponseWriter, req *http.Request, account string, repo *repository, name,
	ref string) {
	data, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	var m struct {
		Config    struct{ Digest string }
		Layers    []struct{ Digest string }
		Manifests []struct{ Digest string }
	}
	_ = json.Unmarshal(data, &m)
	d := digest.FromBytes(data)
	r.mu.Lock()
	var missing []string
	for _, l := range append(m.Layers, m.Config) {
		if _, ok := repo.blobs[l.Digest]; !ok && l.Digest != "" {
			missing = append(missing, l.Digest)
		}
	}
	for _, c := range m.Manifests {
		if repo.manifests[c.Digest] == nil {
			missing = append(missing, c.Digest)
		}
	}
	old, taken := repo.tags[ref]
	movable := slices.ContainsFunc(repo.except, func(p string) bool { ok, _ := path.Match(p, ref); return ok })
	r.mu.Unlock()
	switch {
	case len(missing) > 0:
		registryError(w, http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN",
			fmt.Sprintf("Layers with digests '%s' do not exist in the repository with name '%s' in registry with id '%s'",
				strings.Join(missing, ", "), name, account))
		return
	case taken && repo.immutable && !movable && old != d:
		registryError(w, http.StatusBadRequest, "TAG_INVALID",
			fmt.Sprintf("The image tag '%s' already exists in the '%s' repository and cannot be overwritten because the repository is immutable.", ref, name))
		return
	}
	r.mu.Lock()
	repo.manifests[ref], repo.manifests[d.String()] = data, data
	if !strings.HasPrefix(ref, "sha256:") {
		repo.tags[ref] = d
	}
	r.mu.Unlock()
	req.Body = io.NopCloser(bytes.NewReader(data))
	r.local(account).ServeHTTP(w, req)
}

// authenticate returns a status other than 0 for a request that may not pass.
func (r *Rig) authenticate(req *http.Request) (status int, code, message string) {
	bearer, isBearer := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if isBearer != (req.Host == publicHost) {
		return http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized"
	}
	if isBearer {
		req.Header.Set("Authorization", "Basic "+bearer)
	}
	user, token, ok := req.BasicAuth()
	if !ok || user != "AWS" {
		return http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized"
	}
	r.mu.Lock()
	expires, known := r.tokens[token]
	r.mu.Unlock()
	switch {
	case !known:
		return http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized"
	case time.Now().After(expires):
		return http.StatusForbidden, "DENIED", "Your authorization token has expired. Reauthenticate and try again."
	}
	return 0, "", ""
}

func registryError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
}

// Blobs is an account's store behind the registry, which asks for nothing.
func (r *Rig) Blobs(account string) http.Handler { return r.local(account) }

// Empty forgets the blobs of an account's registry.
func (r *Rig) Empty(account string) {
	r.mu.Lock()
	delete(r.registryHosts, account)
	r.mu.Unlock()
	_ = os.RemoveAll(filepath.Join(r.Dir, "ecr", account))
}
