package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
)

// An upload is one blob on its way; every answer says where the next request
// goes.
type upload struct {
	repo     *Repository
	digest   digest.Digest // "" where it is not known yet
	location string
	sent     int64
}

// initiateUpload starts an upload, or gives nil when a sibling repository could give
// the blob (ECR does where the account has blob mounting turned on).
func (r *Repository) initiateUpload(ctx context.Context, d digest.Digest) (*upload, error) {
	target := r.url("blobs/uploads/")
	if d != "" {
		r.client.mu.Lock()
		from := r.client.locations[d]
		r.client.mu.Unlock()
		if from.repository != "" && from.repository != r.Name {
			u, err := r.requestUpload(ctx, target+"?"+url.Values{"mount": {d.String()}, "from": {from.repository}}.Encode())
			if err == nil && u == nil {
				r.add(d, from.size)
			}
			return u, err
		}
	}
	return r.requestUpload(ctx, target)
}

// nextLocation takes the next address from an answer. It is followed to other hosts as
// httptransport lets it, without our token, and never in the clear.
func (u *upload) nextLocation(resp *http.Response) error {
	loc, err := resp.Location()
	if errors.Is(err, http.ErrNoLocation) {
		return nil // the last one stays good
	}
	if host := u.repo.client.Host; err == nil && loc.Scheme != "https" &&
		(loc.Scheme != host.scheme() || loc.Host != host.Name) {
		err = fmt.Errorf("the registry sends the upload to %s without TLS", loc.Host)
	}
	if err != nil {
		return u.repo.client.newError(u.repo.Name, actionBegin, &LocationError{err})
	}
	u.location = loc.String()
	return nil
}

func (u *upload) streamBlob(ctx context.Context, body io.Reader, size int64) error {
	span := u.repo.client.watch(u.repo.Name, u.digest.String(), max(0, size))
	counted := &counter{r: body, add: func(n int64) { u.sent += n; span.Add(n) }}
	// ECR answers a PATCH with 201.
	resp, err := u.repo.client.do(ctx, u.repo.Name,
		request{action: actionSend, method: http.MethodPatch, url: u.location, stream: counted, size: size,
			contentType: "application/octet-stream",
			accept:      []int{http.StatusAccepted, http.StatusCreated, http.StatusNoContent}})
	span.End(err)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	return u.nextLocation(resp)
}

func (u *upload) commit(ctx context.Context, d digest.Digest) error {
	target, err := url.Parse(u.location)
	if err != nil {
		return err
	}
	q := target.Query()
	q.Set("digest", d.String())
	target.RawQuery = q.Encode()
	// The blob is there: only this step is tried again.
	err = retry(ctx, func() error {
		resp, err := u.repo.client.do(ctx, u.repo.Name,
			request{action: actionCommit, method: http.MethodPut, url: target.String(),
				accept: []int{http.StatusCreated, http.StatusNoContent}})
		var e *Error
		if errors.As(err, &e) && (!e.Temporary() || e.Status() == http.StatusNotFound) {
			return permanentError{err}
		}
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	u.repo.add(d, u.sent)
	return nil
}

// counter tells how many bytes have been read through it.
type counter struct {
	r   io.Reader
	add func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 {
		c.add(int64(n))
	}
	return n, err
}
