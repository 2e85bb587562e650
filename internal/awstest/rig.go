// Package awstest is AWS and two registries on loopback, for tests: the calls
// that ecsbuild makes, an ECR that asks for the IAM action of each request and
// refuses in ECR's own words, and a Docker Hub with token authentication.
//
// The real AWS CLI and the real docker client work against it unchanged
// (AWS_ENDPOINT_URL, HTTPS_PROXY, SSL_CERT_FILE), and a test holds it to that.
// Names such as 123456789012.dkr.ecr.us-east-1.amazonaws.com are reached
// through the rig's own CONNECT proxy, which connects nowhere else.
package awstest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/localregistry"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// Account and Role are who the rig takes every caller for.
const (
	Account = "123456789012"
	Role    = "arn:aws:sts::123456789012:assumed-role/codebuild-shop/AWSCodeBuild-1"
)

// Rig is one such world. Its fields may be changed while nothing runs.
type Rig struct {
	Dir    string // holds ca.pem and the blobs
	Addr   string // 127.0.0.1:PORT; serves AWS's calls, the proxy, and ECR under /v2/
	Region string

	mu            sync.Mutex
	policy        []Grant
	parameters    map[string]string
	kmsRefuses    bool
	proxyRefuses  int // status of the answer to CONNECT, 0 for none
	secrets       map[string]string
	services      map[string][]string // "cluster/service" → container names
	repositories  map[string]*repository
	mounting      bool
	tokens        map[string]time.Time
	hub           hub
	faults        []*Fault
	log           []Request
	putTimes      []time.Time
	createOnPush  []string                           // prefixes of repositories that a first push makes
	signing       map[string]string                  // profiles by the repositories whose images are signed
	registryHosts map[string]*localregistry.Registry // by account

	server *http.Server
	ca     *authority
}

// Start opens a rig whose files lie in dir, under the exact policy of a plain push.
func Start(dir string) (*Rig, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Rig{
		Dir: dir, Addr: l.Addr().String(), Region: "ap-northeast-1", policy: Exact(),
		parameters: map[string]string{}, secrets: map[string]string{}, services: map[string][]string{},
		repositories: map[string]*repository{}, tokens: map[string]time.Time{}, registryHosts: map[string]*localregistry.Registry{},
	}
	r.hub.init(filepath.Join(dir, "hub"))
	if r.ca, err = newAuthority(filepath.Join(dir, "ca.pem")); err != nil {
		_ = l.Close()
		return nil, err
	}
	r.server = &http.Server{Handler: http.HandlerFunc(r.front), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = r.server.Serve(l) }()
	return r, nil
}

// RefuseProxying has the proxy answer CONNECT with a status.
func (r *Rig) RefuseProxying(status int) { r.mu.Lock(); r.proxyRefuses = status; r.mu.Unlock() }

// Close ends the rig.
func (r *Rig) Close() { _ = r.server.Close() }

// Environ is what a process needs to see the rig as the world. A caller
// appends it to an environment that has no AWS variables of its own.
func (r *Rig) Environ() []string {
	return []string{
		"AWS_ENDPOINT_URL=http://" + r.Addr,
		"AWS_REGION=" + r.Region,
		"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
		"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		"AWS_EC2_METADATA_DISABLED=true",
		"HTTPS_PROXY=http://" + r.Addr,
		"SSL_CERT_FILE=" + filepath.Join(r.Dir, "ca.pem"),
	}
}

// front serves the rig's one port.
func (r *Rig) front(w http.ResponseWriter, req *http.Request) {
	switch {
	case req.Method == http.MethodConnect:
		r.connect(w, req)
	case strings.HasPrefix(req.URL.Path, "/v2/"):
		r.ecr(w, req, Account)
	default:
		r.aws(w, req)
	}
}

// hubHosts are Docker Hub's names.
var hubHosts = map[string]bool{"registry-1.docker.io": true, "index.docker.io": true, "auth.docker.io": true}

// byHost serves what came through the proxy.
func (r *Rig) byHost(w http.ResponseWriter, req *http.Request) {
	host := req.Host
	switch account, isECR := r.ecrAccount(host); {
	case isECR:
		r.ecr(w, req, account)
	case host == publicHost && req.URL.Path == "/token/":
		r.publicToken(w, req)
	case host == publicHost:
		r.ecr(w, req, Account)
	case hubHosts[host]:
		r.hubServe(w, req)
	case host == Elsewhere:
		r.record(Request{Action: Elsewhere, Method: req.Method, Anonymous: req.Header.Get("Authorization") == ""})
		w.WriteHeader(http.StatusNotFound)
	default:
		http.Error(w, "the rig has no "+host, http.StatusBadGateway)
	}
}

// Elsewhere is a host that nobody should be sent to with credentials.
const Elsewhere = "elsewhere.example"

func (r *Rig) ecrAccount(host string) (string, bool) {
	h, err := registry.ParseHost("https://" + host)
	if err != nil || h.Account() == "" {
		return "", false
	}
	return h.Account(), h.Region() == r.Region
}

// connect plays the proxy: it ends TLS itself, for any name.
func (r *Rig) connect(w http.ResponseWriter, req *http.Request) {
	host, _, _ := net.SplitHostPort(req.Host)
	r.mu.Lock()
	refuses := r.proxyRefuses
	r.mu.Unlock()
	if refuses != 0 {
		w.WriteHeader(refuses)
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if _, isECR := r.ecrAccount(host); !isECR && !hubHosts[host] && host != publicHost && host != Elsewhere {
		fmt.Fprintf(conn, "HTTP/1.1 502 the rig has no %s\r\n\r\n", host)
		_ = conn.Close()
		return
	}
	fmt.Fprint(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	tlsConn := tls.Server(&buffered{conn, buf.Reader},
		&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.ca.issue(host) }})
	s := &http.Server{Handler: http.HandlerFunc(r.byHost), ErrorLog: log.New(io.Discard, "", 0)}
	_ = s.Serve(&oneConn{conn: tlsConn, done: make(chan struct{})})
}

// buffered reads first what the HTTP server had read ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// oneConn is a listener of one connection.
type oneConn struct {
	conn net.Conn
	once sync.Once
	done chan struct{}
}

func (o *oneConn) Accept() (net.Conn, error) {
	var c net.Conn
	o.once.Do(func() { c = o.conn })
	if c != nil {
		return c, nil
	}
	return nil, io.EOF // Serve returns; the connection's own goroutine goes on
}

func (o *oneConn) Close() error   { return nil }
func (o *oneConn) Addr() net.Addr { return o.conn.LocalAddr() }

// authority issues the certificates of a test run.
type authority struct {
	mu    sync.Mutex
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	leafs map[string]*tls.Certificate
}

func newAuthority(file string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ecsbuild test rig"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, leafs: map[string]*tls.Certificate{}},
		os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func (a *authority) issue(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.leafs[host]; c != nil {
		return c, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host},
		DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	a.leafs[host] = c
	return c, nil
}

// Reset returns a fresh world at the same address, for the next test.
func (r *Rig) Reset() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policy = Exact()
	r.parameters, r.secrets, r.services = map[string]string{}, map[string]string{}, map[string][]string{}
	r.repositories, r.tokens, r.registryHosts = map[string]*repository{}, map[string]time.Time{}, map[string]*localregistry.Registry{}
	r.proxyRefuses = 0
	r.createOnPush, r.signing = nil, nil
	r.kmsRefuses, r.mounting, r.faults, r.log, r.putTimes = false, false, nil, nil, nil
	for _, dir := range []string{"ecr", "hub"} {
		if err := os.RemoveAll(filepath.Join(r.Dir, dir)); err != nil {
			return err
		}
	}
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	r.hub.user, r.hub.password, r.hub.refuseAnonymous, r.hub.refuseBlobs, r.hub.refuseAll = "", "", false, false, false
	r.hub.init(filepath.Join(r.Dir, "hub"))
	return nil
}
