package registry

import (
	"context"
	"errors"
	"net/http"
	"sync"
)

// emptyBlob is the digest of "{}", which some image somewhere has: the answer
// does not matter, only that the question is let through.
const emptyBlob = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

// Probe asks, before anything is built, what a push will ask first: whether
// blobs may be looked for, and whether an upload may begin. So a missing
// repository and a missing permission show in the first second. The upload
// that it begins is the one that the first blob then takes.
func (r *Repository) Probe(ctx context.Context) error {
	var head, begin error
	var wg sync.WaitGroup
	wg.Go(func() { _, _, head = r.Has(ctx, emptyBlob) })
	wg.Go(func() {
		var u *upload
		if begin = retry(ctx, func() (err error) {
			u, err = r.requestUpload(ctx, r.url("blobs/uploads/"))
			return err
		}); begin == nil {
			r.mu.Lock()
			r.ready = u
			r.mu.Unlock()
		}
	})
	wg.Wait()
	return errors.Join(head, begin)
}

// CanRead asks only what leaves nothing behind, for doctor.
func (r *Repository) CanRead(ctx context.Context) error {
	_, _, err := r.Has(ctx, emptyBlob)
	return err
}

// requestUpload begins an upload at an address, or gives nil when a mount was granted.
func (r *Repository) requestUpload(ctx context.Context, target string) (*upload, error) {
	resp, err := r.client.do(ctx, r.Name, request{action: actionBegin, method: http.MethodPost, url: target,
		accept: []int{http.StatusAccepted, http.StatusCreated}})
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return nil, nil
	}
	u := &upload{repo: r}
	if err := u.nextLocation(resp); err != nil {
		return nil, err
	}
	return u, nil
}
