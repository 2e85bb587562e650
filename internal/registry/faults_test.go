package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestTemporary: which failures are worth another try.
func TestTemporary(t *testing.T) {
	for status, want := range map[int]bool{200: true, 400: false, 401: false, 403: false, 408: true, 429: true, 500: true,
		501: false, 503: true} {
		c, log := server(t, func(w http.ResponseWriter, r *http.Request) bool { return respond(w, status, "UNKNOWN") })
		_, err := c.do(t.Context(), "shop", request{action: actionPutImage, method: http.MethodPut,
			url: c.Repository("shop").url("manifests/v1"), accept: []int{http.StatusCreated}})
		var e *Error
		if !errors.As(err, &e) || e.Temporary() != want || e.Status() != status && status != 200 || len(*log) != 1 {
			t.Errorf("%d: %v after %v", status, err, *log)
		}
	}
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"cut off":       {io.ErrUnexpectedEOF, true},
		"our own file":  {&os.PathError{Err: os.ErrNotExist}, false},
		"canceled":      {context.Canceled, false},
		"a dead upload": {&Error{}, true},
		"no address":    {&LocationError{Err: io.EOF}, false},
	} {
		if got := (&Error{Err: tt.err}).Temporary(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	taken := &TagTakenError{Repository: "shop", Tag: "v1", Digest: "sha256:0"}
	if taken.Error() != "shop:v1 is taken by sha256:0" {
		t.Error(taken)
	}
}

// TestOthersAnswer: a page with status 200 is no registry's word that a manifest is put.
func TestOthersAnswer(t *testing.T) {
	pages := 1
	c, log := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || pages == 0 {
			return false
		}
		pages--
		_, _ = io.WriteString(w, "<html>welcome</html>")
		return true
	})
	r := c.Repository("shop")
	if err := r.PutManifest(t.Context(), "v1", "application/vnd.oci.image.manifest.v1+json", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if d, err := r.TagDigest(t.Context(), "v1"); err != nil || d != digest.FromString("{}") {
		t.Errorf("%s %v after %v", d, err, *log)
	}
}

// TestExpiresInUpload: a token that expires while a blob is sent is renewed, and the blob sent again.
func TestExpiresInUpload(t *testing.T) {
	c, _ := server(t, func(w http.ResponseWriter, r *http.Request) bool {
		if _, password, _ := r.BasicAuth(); password == "new" || r.Method != http.MethodPatch {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"Your authorization token has expired."}]}`)
		return true
	})
	password := "old"
	c.auth = func(_ context.Context, expired string) (string, string, error) {
		if expired == password {
			password = "new"
		}
		return "AWS", password, nil
	}
	r := c.Repository("shop")
	if err := putBytes(t, r, []byte("blob")); err != nil {
		t.Fatal(err)
	}
	if password != "new" {
		t.Error("nothing was renewed")
	}
}
