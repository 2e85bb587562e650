package awstest

import (
	"io"
	"net/http"
)

// countingBody counts what arrives, and can break off.
type countingBody struct {
	rc  io.ReadCloser
	n   int64
	cut int64
}

func (c *countingBody) Read(p []byte) (int, error) {
	if c.cut > 0 && c.n >= c.cut {
		panic(http.ErrAbortHandler)
	}
	n, err := c.rc.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countingBody) Close() error { return c.rc.Close() }

// statusWriter remembers the status, and can say another one.
type statusWriter struct {
	http.ResponseWriter
	status  int
	written int64
	rewrite map[int]int
	digest  string // instead of that of the content, "" for that
}

func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *statusWriter) WriteHeader(status int) {
	if s.digest != "" && s.Header().Get("Docker-Content-Digest") != "" {
		s.Header().Set("Docker-Content-Digest", s.digest)
	}
	if to, ok := s.rewrite[status]; ok {
		status = to
	}
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusWriter) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.WriteHeader(http.StatusOK)
	}
	n, err := s.ResponseWriter.Write(p)
	s.written += int64(n)
	return n, err
}
