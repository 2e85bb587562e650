package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/ecsbuild/ecsbuild/internal/httptransport"
)

// A TagTakenError says that a tag names another image already, and will not move.
type TagTakenError struct {
	Repository, Tag, Digest string
	Why                     string // why it will not: the repository's rule, or on_immutable
}

func (e *TagTakenError) Error() string {
	return fmt.Sprintf("%s:%s is taken by %s", e.Repository, e.Tag, e.Digest)
}

// An Error is a request that a registry refused or did not answer.
type Error struct {
	Host       string
	Repository string
	Tag        string // "" where none is concerned
	Action     string // the IAM action that is asked for, as ecr:PutImage or ecr-public:PutImage
	Err        error  // *transport.Error for an answer, anything else for none

	renewed bool // the token had expired, and another try has a new one
	givenUp bool // another try would take as long as those before
}

// newError is one of a request for which an action is asked, of whatever service.
func (c *Client) newError(repository, action string, err error) *Error {
	return &Error{Host: c.Host.Name, Repository: repository, Action: c.Host.service() + ":" + action, Err: err}
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s/%s: %s: %v", e.Host, e.Repository, e.Action, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// IsAction says whether the action has a name, as InitiateLayerUpload, in whatever service.
func (e *Error) IsAction(name string) bool { return strings.HasSuffix(e.Action, ":"+name) }

// Status is the HTTP status of the answer, 0 where there was none.
func (e *Error) Status() int {
	var t *transport.Error
	if errors.As(e.Err, &t) {
		return t.StatusCode
	}
	return 0
}

// Code returns the registry's error code, such as NAME_UNKNOWN, and its words.
func (e *Error) Code() (code, message string) {
	var t *transport.Error
	if !errors.As(e.Err, &t) {
		return "", ""
	}
	if len(t.Errors) > 0 {
		return string(t.Errors[0].Code), t.Errors[0].Message
	}
	return "", http.StatusText(t.StatusCode)
}

// Foreign says that an answer is not a registry's: a proxy or firewall on the way
// refuses in its own form. The answer to a HEAD has no form.
func (e *Error) Foreign() bool {
	var t *transport.Error
	if !errors.As(e.Err, &t) || len(t.Errors) > 0 || e.IsAction(actionHead) {
		return false
	}
	switch t.StatusCode {
	case http.StatusForbidden, http.StatusProxyAuthRequired:
		return true
	}
	return false // a server's error may be the registry's own
}

// expired says that the token may have run out, and a new one may do. The
// answer to a HEAD has no words: any refusal of one is worth a new token.
func (e *Error) expired() bool {
	_, msg := e.Code()
	return e.Status() == http.StatusUnauthorized ||
		e.Status() == http.StatusForbidden && (e.IsAction(actionHead) ||
			strings.Contains(msg, "authorization token has expired"))
}

// IsImmutable says that a tag was refused, since it names another image and the
// repository lets none be moved.
func (e *Error) IsImmutable() bool {
	code, msg := e.Code()
	return code == "TAG_INVALID" || strings.Contains(msg, "immutable")
}

// A LocationError is a registry's address for an upload that is no address, or would have
// the upload go without TLS.
type LocationError struct{ Err error }

func (e *LocationError) Error() string { return e.Err.Error() }
func (e *LocationError) Unwrap() error { return e.Err }

// Temporary says that the same request may succeed a moment later.
func (e *Error) Temporary() bool {
	switch s := e.Status(); {
	case e.givenUp:
		return false
	case e.renewed, s >= 200 && s < 300: // a success of somebody else, such as a proxy's page
		return true
	case s == 0: // no answer: reset, timeout, cut off; but not a fault of our own
		var file *fs.PathError
		var certificate *tls.CertificateVerificationError
		var proxy *httptransport.ProxyError
		var address *httptransport.AddressError
		var location *LocationError
		if errors.As(e.Err, &address) || errors.As(e.Err, &location) {
			return false
		}
		if errors.As(e.Err, &proxy) && proxy.Status >= 400 && proxy.Status < 500 {
			return false // it has made up its mind
		}
		return !errors.Is(e.Err, context.Canceled) && !errors.As(e.Err, &file) && !errors.As(e.Err, &certificate)
	case s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s >= 500 && s != http.StatusNotImplemented:
		return true
	case s == http.StatusNotFound:
		code, _ := e.Code()
		return code == string(transport.BlobUploadUnknownErrorCode) // the upload is gone: begin another
	}
	return false
}

// IsRefused says that the account may not do this, or is none.
func (e *Error) IsRefused() bool {
	return e.Status() == http.StatusForbidden || e.Status() == http.StatusUnauthorized
}

// IsMissing says that a repository does not exist.
func IsMissing(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	code, _ := e.Code()
	return code == string(transport.NameUnknownErrorCode)
}
