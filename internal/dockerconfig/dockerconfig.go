// Package dockerconfig reads and writes the docker client's own configuration,
// config.json.
package dockerconfig

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ecsbuild/ecsbuild/internal/atomicfile"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A File is docker's config.json; what we do not know in it stays.
type File struct {
	path   string
	fields map[string]json.RawMessage
	auths  map[string]json.RawMessage

	environment map[string]json.RawMessage // auths of DOCKER_AUTH_CONFIG
	stored      map[string]json.RawMessage // auths that Save writes
}

// hubKey is what the docker client calls Docker Hub.
const hubKey = "https://index.docker.io/v1/"

// Folder is where docker keeps its configuration, "" where there is no
// home to look in.
func Folder(getenv func(string) string) string {
	if d := getenv("DOCKER_CONFIG"); d != "" {
		return d
	}
	home := getenv("HOME")
	if u, err := user.Current(); home == "" && err == nil {
		home = u.HomeDir
	}
	if home == "" {
		return ""
	}
	return filepath.Join(home, ".docker")
}

// Open reads the file; one that is not there is empty.
func Open(getenv func(string) string) (*File, error) {
	dir := Folder(getenv)
	if dir == "" {
		return nil, &fault.Error{What: "there is no home folder for docker's configuration",
			Fix: "set HOME or DOCKER_CONFIG"}
	}
	c := &File{path: filepath.Join(dir, "config.json"), stored: map[string]json.RawMessage{}}
	if err := c.read(); err != nil {
		return nil, err
	}
	if text := getenv("DOCKER_AUTH_CONFIG"); text != "" {
		var env struct{ Auths map[string]json.RawMessage }
		if err := json.Unmarshal([]byte(text), &env); err != nil {
			// The text holds passwords, and is not repeated.
			return nil, &fault.Error{What: "DOCKER_AUTH_CONFIG is not JSON",
				Fix: "give it the form of docker's config.json, or unset it"}
		}
		c.environment = env.Auths
	}
	return c, nil
}

func (c *File) read() error {
	c.fields, c.auths = map[string]json.RawMessage{}, map[string]json.RawMessage{}
	data, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if err != nil {
		return &fault.Error{What: "cannot read " + c.path, Why: err.Error()}
	}
	if err := json.Unmarshal(data, &c.fields); err != nil {
		return &fault.Error{What: c.path + " is not JSON", Why: err.Error(), Fix: "correct it, or move it away"}
	}
	if c.fields == nil { // the file says null
		c.fields = map[string]json.RawMessage{}
	}
	if raw, ok := c.fields["auths"]; ok && string(raw) != "null" {
		if err := json.Unmarshal(raw, &c.auths); err != nil {
			return &fault.Error{What: c.path + ": auths is not a JSON object", Why: err.Error(),
				Fix: "correct it, or move it away"}
		}
	}
	return nil
}

// helper names the credential store that is configured for a host, "" for none.
func (c *File) helper(key string) string {
	var perHost map[string]string
	_ = json.Unmarshal(c.fields["credHelpers"], &perHost)
	if h := perHost[key]; h != "" {
		return h
	}
	var all string
	_ = json.Unmarshal(c.fields["credsStore"], &all)
	return all
}

// Store keeps one account: in the configured credential store, else in the
// file, as docker login does.
func (c *File) Store(ctx context.Context, host string, a plan.Account) error {
	key := host
	if host == plan.DockerHub {
		key = hubKey
	}
	if h := c.helper(key); h != "" {
		// The file lists the host, and the store has the secret.
		c.stored[key] = json.RawMessage("{}")
		return storeWithHelper(ctx, h, key, a)
	}
	entry, err := json.Marshal(map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(a.Username + ":" +
		a.Password.Reveal()))})
	c.stored[key] = entry
	return err
}

// storeWithHelper speaks docker's credential helper protocol: the secret goes
// by standard input.
// https://github.com/docker/docker-credential-helpers
func storeWithHelper(ctx context.Context, helper, key string, a plan.Account) error {
	if helper == "ecr-login" {
		return nil // it asks ECR by itself, and stores nothing
	}
	name := "docker-credential-" + helper
	in, err := json.Marshal(map[string]string{"ServerURL": key, "Username": a.Username, "Secret": a.Password.Reveal()})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, name, "store")
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		why := strings.TrimSpace(string(out))
		if why == "" {
			why = err.Error()
		}
		return &fault.Error{What: fmt.Sprintf("the credential store %s did not take the account for %s", name, key), Why: why,
			Fix: "install it, or take credsStore out of docker's config.json"}
	}
	return nil
}

// Save writes the file in one step, for its owner alone. Others may log in at the
// same time: it is read once more under a lock, so that no entry is lost.
func (c *File) Save() (err error) {
	if len(c.stored) == 0 {
		return nil
	}
	defer func() {
		var known *fault.Error
		if err != nil && !errors.As(err, &known) {
			err = &fault.Error{What: "cannot write " + c.path, Why: err.Error()}
		}
	}()
	path := c.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a linked file stays a link
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// The folder itself is locked, so that no file is left behind.
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if err := c.read(); err != nil {
		return err
	}
	maps.Copy(c.auths, c.stored)
	if c.fields["auths"], err = json.Marshal(c.auths); err != nil {
		return err
	}
	data, err := json.MarshalIndent(c.fields, "", "\t")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}
