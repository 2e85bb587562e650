package dockerconfig

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// open reads a config.json with this text, "" for none.
func open(t *testing.T, text string, env map[string]string) (*File, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	if text != "" {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Open(func(name string) string {
		if name == "DOCKER_CONFIG" {
			return dir
		}
		return env[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, path
}

// install puts a credential helper on the PATH.
func install(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "docker-credential-"+name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func encode(pair string) string { return base64.StdEncoding.EncodeToString([]byte(pair)) }

func TestAccount(t *testing.T) {
	install(t, "good", `read server; printf '{"Username":"helper-user","Secret":"of %s"}' "$server"`)
	install(t, "token", `printf '{"Username":"<token>","Secret":"identity"}'`)
	install(t, "empty", `echo "credentials not found in native keychain"; exit 1`)
	install(t, "locked", `echo "the keychain is locked" >&2; exit 1`)
	install(t, "chatty", `printf '{"Secret":"never shown"}'; exit 1`)
	install(t, "broken", `echo hello`)
	for _, c := range []struct {
		name, text, host string
		env              string
		want             plan.Account
		password         string
		err              string // "" for none; an account that is not there has neither
	}{
		{name: "no file", host: "docker.io"},
		{name: "an empty file", text: " \n", host: "docker.io"},
		{name: "null", text: "null", host: "docker.io"},
		{name: "docker login to Docker Hub", host: "docker.io",
			text: `{"auths":{"https://index.docker.io/v1/":{"auth":"` + encode("me:pass:word") + `"}}}`,
			want: plan.Account{Username: "me", From: "docker login"}, password: "pass:word"},
		{name: "another registry", host: "ghcr.io",
			text: `{"auths":{"https://index.docker.io/v1/":{"auth":"` + encode("me:word") + `"}}}`},
		{name: "an address as an older docker wrote it", host: "quay.io",
			text: `{"auths":{"https://quay.io/v1/":{"username":"me","password":"word"}}}`,
			want: plan.Account{Username: "me", From: "docker login"}, password: "word"},
		{name: "an identity token", host: "acr.example",
			text: `{"auths":{"acr.example":{"auth":"` + encode("x:y") + `","identitytoken":"refresh"}}}`,
			want: plan.Account{From: "docker login"}, password: "refresh"},
		{name: "an entry that is no base64", host: "quay.io", text: `{"auths":{"quay.io":{"auth":"%%%"}}}`},
		{name: "an entry of a credential store", host: "quay.io", text: `{"auths":{"quay.io":{}}}`},
		{name: "DOCKER_AUTH_CONFIG comes first", host: "quay.io",
			text: `{"auths":{"quay.io":{"auth":"` + encode("file:a") + `"}}}`,
			env:  `{"auths":{"quay.io":{"auth":"` + encode("variable:b") + `"}}}`,
			want: plan.Account{Username: "variable", From: "DOCKER_AUTH_CONFIG"}, password: "b"},
		{name: "credsStore", host: "docker.io", text: `{"credsStore":"good"}`,
			want:     plan.Account{Username: "helper-user", From: "docker-credential-good"},
			password: "of https://index.docker.io/v1/"},
		{name: "credHelpers before credsStore", host: "quay.io",
			text: `{"credsStore":"locked","credHelpers":{"quay.io":"token"}}`,
			want: plan.Account{From: "docker-credential-token"}, password: "identity"},
		{name: "a store without an entry", host: "quay.io", text: `{"credsStore":"empty"}`},
		{name: "a store that fails", host: "quay.io", text: `{"credsStore":"locked"}`,
			err: "docker-credential-locked: the keychain is locked"},
		{name: "a failure with an answer in it", host: "quay.io", text: `{"credsStore":"chatty"}`,
			err: "docker-credential-chatty: exit status 1"},
		{name: "an answer that is not JSON", host: "quay.io", text: `{"credsStore":"broken"}`,
			err: "docker-credential-broken answers something that is not JSON"},
		{name: "a store that is not installed", host: "quay.io", text: `{"credsStore":"absent"}`,
			err: `docker-credential-absent: exec: "docker-credential-absent": executable file not found in $PATH`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, _ := open(t, c.text, map[string]string{"DOCKER_AUTH_CONFIG": c.env})
			got, ok, err := f.Account(t.Context(), c.host)
			if text := errorText(err); text != c.err {
				t.Fatalf("error %q, want %q", text, c.err)
			}
			if ok != (c.password != "") || got.Username != c.want.Username || got.From != c.want.From ||
				got.Password.Reveal() != c.password {
				t.Errorf("account %+v with password %q, %v", got, got.Password.Reveal(), ok)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAccountEndsWithItsContext(t *testing.T) {
	install(t, "hung", "exec sleep 60")
	f, _ := open(t, `{"credsStore":"hung"}`, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.Account(ctx, "quay.io"); err == nil {
		t.Error("no error of a credential helper that was canceled")
	}
}

func TestOpenRefusesWhatItCannotRead(t *testing.T) {
	for text, want := range map[string]string{
		"{":               "is not JSON",
		`{"auths":[1]}`:   "auths is not a JSON object",
		`"a mere string"`: "is not JSON",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "config.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] })
		var known *fault.Error
		if !errors.As(err, &known) || !strings.Contains(known.What, path) || !strings.Contains(known.What, want) {
			t.Errorf("%s: %v, want %s: %s", text, err, path, want)
		}
	}
	secret := "no JSON, and a p4ssword"
	_, err := Open(func(name string) string {
		return map[string]string{"DOCKER_CONFIG": t.TempDir(), "DOCKER_AUTH_CONFIG": secret}[name]
	})
	if err == nil || strings.Contains(err.Error(), "p4ssword") {
		t.Errorf("DOCKER_AUTH_CONFIG: %v", err)
	}
}

func TestStoreWritesWhatDockerReads(t *testing.T) {
	f, path := open(t, `{"psFormat":"table","auths":{"ghcr.io":{"auth":"`+encode("g:h")+`"}}}`, nil)
	store(t, f, plan.DockerHub, "me", "word")
	var got map[string]any
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"psFormat": "table", "auths": map[string]any{
		"ghcr.io":                     map[string]any{"auth": encode("g:h")},
		"https://index.docker.io/v1/": map[string]any{"auth": encode("me:word")},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestStoreGivesTheSecretToTheHelperAlone(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept")
	install(t, "keep", "cat > "+kept)
	f, path := open(t, `{"credsStore":"keep"}`, nil)
	store(t, f, "quay.io", "me", "s3cret")
	if data, _ := os.ReadFile(kept); !strings.Contains(string(data), `"Secret":"s3cret"`) {
		t.Errorf("the helper read %q", data)
	}
	if data, _ := os.ReadFile(path); strings.Contains(string(data), "s3cret") ||
		!strings.Contains(string(data), `"quay.io": {}`) {
		t.Errorf("config.json: %s", data)
	}
}

func TestAHelperThatRefuses(t *testing.T) {
	install(t, "refuse", `echo "no such collection"; exit 1`)
	f, _ := open(t, `{"credsStore":"refuse"}`, nil)
	err := f.Store(t.Context(), "quay.io", plan.Account{Username: "me", Password: plan.NewSecret("w")})
	var known *fault.Error
	if !errors.As(err, &known) || known.Why != "no such collection" {
		t.Errorf("error %#v", err)
	}
}

func TestLoginsAtTheSameTimeKeepEachOther(t *testing.T) {
	dir := t.TempDir()
	getenv := func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] }
	hosts := []string{"a.example", "b.example", "c.example", "d.example", "e.example", "f.example"}
	var all sync.WaitGroup
	for _, host := range hosts {
		f, err := Open(getenv)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() { store(t, f, host, "me", "word") })
	}
	all.Wait()
	f, err := Open(getenv)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range hosts {
		if _, ok, err := f.Account(t.Context(), host); !ok || err != nil {
			t.Errorf("%s: %v %v", host, ok, err)
		}
	}
}

func store(t *testing.T, f *File, host, user, password string) {
	t.Helper()
	if err := f.Store(t.Context(), host, plan.Account{Username: user, Password: plan.NewSecret(password)}); err != nil {
		t.Error(err)
	}
	if err := f.Save(); err != nil {
		t.Error(err)
	}
}

func TestProxies(t *testing.T) {
	f, _ := open(t, `{"proxies":{
		"default":{"httpProxy":"http://p","noProxy":"localhost"},
		"tcp://build:2375":{"httpsProxy":"http://q","ftpProxy":"http://f","allProxy":"http://a"}}}`, nil)
	for engine, want := range map[string]map[string]string{
		"unix:///var/run/docker.sock": {"HTTP_PROXY": "http://p", "NO_PROXY": "localhost"},
		"tcp://build:2375":            {"HTTPS_PROXY": "http://q", "FTP_PROXY": "http://f", "ALL_PROXY": "http://a"},
	} {
		if d := cmp.Diff(want, f.Proxies(engine)); d != "" {
			t.Errorf("%s: %s", engine, d)
		}
	}
	if got := (*File)(nil).Proxies("x"); got != nil {
		t.Errorf("no file has proxies %v", got)
	}
}

func TestFolder(t *testing.T) {
	for _, c := range []struct{ config, home, want string }{
		{"/etc/d", "/home/me", "/etc/d"},
		{"", "/home/me", "/home/me/.docker"},
	} {
		got := Folder(func(name string) string {
			return map[string]string{"DOCKER_CONFIG": c.config, "HOME": c.home}[name]
		})
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
