package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/credentials"
	"github.com/ecsbuild/ecsbuild/internal/diagnose"
	"github.com/ecsbuild/ecsbuild/internal/dockerconfig"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/iampolicy"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// dockerConfig reads docker's configuration, nil where it cannot be.
func (a *app) dockerConfig(warn func(string)) *dockerconfig.File {
	c, err := dockerconfig.Open(a.getenv)
	if err != nil {
		warn("docker's own configuration is not used: " + err.Error())
		return nil
	}
	return c
}

// credentialSource is where a command has its credentials from; docker is nil for
// no look at docker's own.
func (a *app) credentialSource(p *plan.Plan, docker *dockerconfig.File, note progress.NoteFunc) credentials.Source {
	return credentials.Source{
		Plan: p, Agent: "ecsbuild/" + versionText(), Masked: a.secrets, Note: note,
		Accounts: &credentials.Accounts{Docker: docker, Note: note, Masked: a.secrets},
		AWS:      func(ctx context.Context) (*aws.Client, error) { return aws.Load(ctx, p.Region) },
	}
}

// facts is what a diagnosis should know of this process.
func (a *app) facts(p *plan.Plan) diagnose.Facts {
	project, _, _ := strings.Cut(a.getenv("CODEBUILD_BUILD_ID"), ":")
	return diagnose.Facts{Scope: iampolicy.Scope{Region: p.Region, Account: p.Account, Public: p.Public,
		Caller:       callerAccount(a.getenv),
		CallerRegion: p.CallerRegion},
		Project: project}
}

// callerAccount is the account that this runs in, where CodeBuild says it.
func callerAccount(getenv func(string) string) string {
	if arn := strings.Split(getenv("CODEBUILD_BUILD_ARN"), ":"); len(arn) > 5 {
		return arn[4]
	}
	return ""
}

// withAccounts adds what is known of the accounts that base images were asked for with.
func withAccounts(f diagnose.Facts, accounts *credentials.Accounts) diagnose.Facts {
	f.Anonymous, f.Refused = accounts.Anonymous()
	f.Used = accounts.Used
	return f
}

// checkCacheFolder refuses a folder of caches that another user has made, where everybody can
// make one, as in /tmp: what is in it gets into images.
func checkCacheFolder(folder string, getenv func(string) string) error {
	parent, err := os.Stat(filepath.Dir(folder))
	if err != nil || parent.Mode().Perm()&0o002 == 0 {
		return nil
	}
	st, err := os.Stat(folder)
	if err != nil {
		return nil // a run makes it
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 || int(owner.Uid) == os.Geteuid() || fmt.Sprint(owner.Uid) == getenv("SUDO_UID") {
		return nil
	}
	return &fault.Error{What: fmt.Sprintf("ECSBUILD_CACHE: %s belongs to another user (%d)", folder, owner.Uid),
		Why: "what is in it gets into images", Fix: "choose a folder of your own"}
}

// cacheFolder is where the host state lies: ECSBUILD_CACHE, else in the user's
// cache folder, "" where there is none.
func cacheFolder(getenv func(string) string) string {
	if dir := getenv("ECSBUILD_CACHE"); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			return abs
		}
		return dir
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "ecsbuild")
	}
	return ""
}
