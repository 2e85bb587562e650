package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// check is for programs of scripts, which have no *testing.T.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// tlsRelay is "tlsrelay DIR SOCKET": it hands TLS connections to a socket, as a buildkitd behind
// TLS is reached. Only a client with its certificate is let in. DIR gets ca.pem, cert.pem, key.pem
// and, last of all, addr.
func tlsRelay(dir, socket string) {
	check(os.MkdirAll(dir, 0o700))
	authority, authorityKey := certificate("ca", nil, nil)
	issue := func(name string) tls.Certificate {
		cert, key := certificate(name, authority, authorityKey)
		return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	}
	client := issue("client")
	key, err := x509.MarshalECPrivateKey(client.PrivateKey.(*ecdsa.PrivateKey))
	check(err)
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: authority.Raw},
		"cert.pem": {Type: "CERTIFICATE", Bytes: client.Certificate[0]},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: key},
	} {
		check(os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{issue("server")},
		ClientCAs:  roots,
		ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"}})
	check(err)
	check(os.WriteFile(filepath.Join(dir, "addr"), []byte(l.Addr().String()), 0o600))
	handOn(l, "unix", socket)
}

// certificate is signed by another one, or by itself.
func certificate(name string, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		IsCA: by == nil, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if by == nil {
		by, byKey = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by, &key.PublicKey, byKey)
	check(err)
	cert, err := x509.ParseCertificate(der)
	check(err)
	return cert, key
}

// sshServer is "sshserver DIR": a host that runs the commands of whoever has the key in DIR. DIR
// gets key, known_hosts and, last of all, port.
func sshServer(dir string) {
	check(os.MkdirAll(dir, 0o700))
	public, private, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	check(err)
	check(os.WriteFile(filepath.Join(dir, "key"), pem.EncodeToMemory(block), 0o600))
	allowed, err := ssh.NewPublicKey(public)
	check(err)
	_, host, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	signer, err := ssh.NewSignerFromKey(host)
	check(err)
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(allowed.Marshal()) {
			return nil, fmt.Errorf("an unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	check(err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	check(os.WriteFile(filepath.Join(dir, "known_hosts"),
		fmt.Appendf(nil, "[127.0.0.1]:%s %s", port, ssh.MarshalAuthorizedKey(signer.PublicKey())), 0o600))
	check(os.WriteFile(filepath.Join(dir, "port"), []byte(port), 0o600))
	for {
		conn, err := l.Accept()
		check(err)
		go func() {
			_, channels, requests, err := ssh.NewServerConn(conn, config)
			if err != nil {
				return
			}
			go ssh.DiscardRequests(requests)
			for c := range channels {
				go runCommand(c)
			}
		}()
	}
}

func runCommand(offered ssh.NewChannel) {
	c, requests, err := offered.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	for r := range requests {
		var command struct{ Text string }
		ok := r.Type == "exec" && ssh.Unmarshal(r.Payload, &command) == nil
		_ = r.Reply(ok, nil)
		if !ok {
			continue
		}
		cmd := exec.Command("sh", "-c", command.Text)
		in, err := cmd.StdinPipe()
		check(err)
		cmd.Stdout, cmd.Stderr = c, c.Stderr()
		check(cmd.Start())
		go func() { _, _ = io.Copy(in, c); _ = in.Close() }()
		_ = cmd.Wait()
		_, _ = c.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(cmd.ProcessState.ExitCode())}))
		return
	}
}

// buildctl stands for the program of that name on the host of a buildkitd: "--addr unix://SOCKET
// dial-stdio".
func buildctl() {
	socket := strings.TrimPrefix(os.Getenv("BUILDKIT_HOST"), "unix://")
	for i, arg := range os.Args {
		if arg == "--addr" {
			socket = strings.TrimPrefix(os.Args[i+1], "unix://")
		}
	}
	conn, err := net.Dial("unix", socket)
	check(err)
	go func() { _, _ = io.Copy(conn, os.Stdin); _ = conn.(*net.UnixConn).CloseWrite() }()
	_, _ = io.Copy(os.Stdout, conn)
}
