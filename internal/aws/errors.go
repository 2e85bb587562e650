package aws

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/ecsbuild/ecsbuild/internal/httptransport"
)

// An Error is a call to an AWS service that failed.
type Error struct {
	Action    string   // as IAM spells it
	Resources []string // names of what was asked for, without values
	Err       error
}

func (e *Error) Error() string { return e.Action + ": " + e.Message() }
func (e *Error) Unwrap() error { return e.Err }

// Code is the service's error code, such as AccessDeniedException; "" where
// the service did not answer.
func (e *Error) Code() string {
	var api smithy.APIError
	if errors.As(e.Err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Message is the service's own sentence.
func (e *Error) Message() string {
	var api smithy.APIError
	var stalled *httptransport.StalledError
	var proxy *httptransport.ProxyError
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
func (e *Error) IsKMS() bool {
	msg := e.Message()
	return e.Code() != "" && (strings.Contains(msg, "KMS") || strings.Contains(msg, "kms:") ||
		strings.HasPrefix(e.Code(), "InvalidKeyId"))
}

// IsDenied says that IAM refused the call.
func (e *Error) IsDenied() bool {
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
