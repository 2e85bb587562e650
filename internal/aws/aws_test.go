package aws

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ecsbuild/ecsbuild/internal/httptransport"
)

// TestAWSLimit calls an endpoint that accepts, and never answers.
func TestAWSLimit(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	oldCall, oldAttempt := callTimeout, attemptTimeout
	callTimeout, attemptTimeout = 300*time.Millisecond, 100*time.Millisecond
	defer func() { callTimeout, attemptTimeout = oldCall, oldAttempt }()
	t.Setenv("AWS_ENDPOINT_URL", "http://"+l.Addr().String())
	a, err := Load(context.Background(), "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	a.config.Credentials = aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("AKIA", "secret", ""))
	start := time.Now()
	_, err = a.Token(context.Background(), "")
	var e *Error
	var stalled *httptransport.StalledError
	if !errors.As(err, &e) || e.Action != "ecr:GetAuthorizationToken" || e.Code() != "" || !errors.As(err, &stalled) {
		t.Errorf("%v", err)
	}
	if time.Since(start) > 5*time.Second {
		t.Errorf("after %v", time.Since(start))
	}
}
