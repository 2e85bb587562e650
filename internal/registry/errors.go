package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// An Error is a request that a registry refused or did not answer.
type Error struct {
	Host       string
	Repository string
	Tag        string // "" where none is concerned
	Action     string // the IAM action that ECR asks for this request
	Err        error  // *transport.Error for an answer, anything else for none
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s/%s: %s: %v", e.Host, e.Repository, e.Action, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Status is the HTTP status of the answer, 0 where there was none.
func (e *Error) Status() int {
	var t *transport.Error
	if errors.As(e.Err, &t) {
		return t.StatusCode
	}
	return 0
}

// Code gives the registry's error code, such as NAME_UNKNOWN, and its words.
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
	if !errors.As(e.Err, &t) || len(t.Errors) > 0 || e.Action == actionHead {
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
		e.Status() == http.StatusForbidden && (e.Action == actionHead || strings.Contains(msg, "authorization token has expired"))
}

// IsImmutable says that a tag was refused, since it names another image and the
// repository lets none be moved.
func (e *Error) IsImmutable() bool {
	code, msg := e.Code()
	return code == "TAG_INVALID" || strings.Contains(msg, "immutable")
}

// Temporary says that the same request may succeed a moment later.
func (e *Error) Temporary() bool {
	switch s := e.Status(); {
	case s == 0: // no answer: reset, timeout, cut off; but not a fault of our own
		var file *fs.PathError
		var certificate *tls.CertificateVerificationError
		var proxy *ProxyError
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

// An AWSError is a call to an AWS service that failed.
type AWSError struct {
	Action    string   // as IAM spells it
	Resources []string // names of what was asked for, without values
	Err       error
}

func (e *AWSError) Error() string { return e.Action + ": " + e.Message() }
func (e *AWSError) Unwrap() error { return e.Err }

// Code is the service's error code, such as AccessDeniedException; "" where
// the service did not answer.
func (e *AWSError) Code() string {
	var api smithy.APIError
	if errors.As(e.Err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Message is the service's own sentence.
func (e *AWSError) Message() string {
	var api smithy.APIError
	var stalled *StalledError
	var proxy *ProxyError
	switch {
	case errors.As(e.Err, &stalled):
		return stalled.Error()
	case errors.As(e.Err, &proxy):
		return proxy.Error()
	}
	if errors.As(e.Err, &api) {
		if m := api.ErrorMessage(); m != "" {
			return m
		}
		return api.ErrorCode()
	}
	return e.Err.Error()
}

// IsKMS says that KMS refused to decrypt, and the service passed it on.
func (e *AWSError) IsKMS() bool {
	msg := e.Message()
	return e.Code() != "" && (strings.Contains(msg, "KMS") || strings.Contains(msg, "kms:") || strings.HasPrefix(e.Code(), "InvalidKeyId"))
}

// IsDenied says that IAM refused the call.
func (e *AWSError) IsDenied() bool {
	return strings.Contains(e.Code(), "AccessDenied") || e.Code() == "UnauthorizedOperation"
}

var callerARN = regexp.MustCompile(`arn:aws[a-z-]*:(?:sts|iam)::[0-9]{12}:[A-Za-z0-9_+=,.@/-]+`)

// CallerARN finds who was refused in the words of a refusal; "" where they do
// not say it.
func CallerARN(message string) string { return callerARN.FindString(message) }

// A MissingError names parameters or secrets that do not exist.
type MissingError struct {
	Service string // "SSM" or "Secrets Manager"
	Region  string
	Names   []string
	Why     string // "" for plainly not there
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s has no %s in %s", e.Service, strings.Join(e.Names, ", "), e.Region)
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
