package baseimage

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/httptransport"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A Limit is what Docker Hub says of the pulls that are left.
type Limit struct {
	Remaining int // -1 where Docker Hub names no limit
	Limit     int
}

// A RefusedError says that Docker Hub does not take an account's password.
type RefusedError struct{ Account plan.Account }

func (e *RefusedError) Error() string {
	return "Docker Hub does not accept " + e.Account.String()
}

// timeout bounds the two requests together.
const timeout = 20 * time.Second

// DockerHubLimit logs in, or not, and reads the limit from the answer to a HEAD, which
// counts as no pull.
// https://docs.docker.com/docker-hub/usage/pulls/
func DockerHubLimit(ctx context.Context, account plan.Account, agent string) (Limit, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	const image = "ratelimitpreview/test"
	client := &http.Client{Transport: httptransport.New("registry-1.docker.io")}
	defer client.CloseIdleConnections()
	get := func(method, target string, auth func(*http.Request)) (*http.Response, []byte, error) {
		req, err := http.NewRequestWithContext(ctx, method, target, nil)
		if err != nil {
			return nil, nil, err
		}
		req.Header.Set("User-Agent", agent)
		auth(req)
		resp, err := client.Do(req)
		if err != nil {
			return nil, nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return resp, body, err
	}
	resp, body, err := get(http.MethodGet, "https://auth.docker.io/token?"+url.Values{"service": {"registry.docker.io"},
		"scope": {"repository:" + image + ":pull"}}.Encode(), func(r *http.Request) {
		if account.Username != "" {
			r.SetBasicAuth(account.Username, account.Password.Reveal())
		}
	})
	if err != nil {
		return Limit{}, err
	}
	if resp.StatusCode == http.StatusUnauthorized && account.Username != "" {
		return Limit{}, &RefusedError{Account: account}
	}
	var token struct{ Token string }
	if err := json.Unmarshal(body, &token); err != nil || resp.StatusCode != http.StatusOK {
		return Limit{}, fmt.Errorf("the token service of Docker Hub answers with status %d", resp.StatusCode)
	}
	resp, _, err = get(http.MethodHead, "https://registry-1.docker.io/v2/"+image+"/manifests/latest",
		func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token.Token) })
	if err != nil {
		return Limit{}, err
	}
	return Limit{Remaining: limit(resp.Header.Get("Ratelimit-Remaining")),
		Limit: limit(resp.Header.Get("Ratelimit-Limit"))}, nil
}

// limit reads "100;w=21600"; -1 for none.
func limit(header string) int {
	text, _, _ := strings.Cut(header, ";")
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}
