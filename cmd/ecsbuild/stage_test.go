package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// stage is what scripts say to the world around ecsbuild.
type stage struct {
	rig  *awstest.Rig
	kind string
}

// command is "rig VERB ARG…".
func (s *stage) command(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: rig VERB ARG...")
	}
	verb, args := args[0], args[1:]
	arg := func(i int) string {
		if i >= len(args) {
			ts.Fatalf("rig %s: argument %d is missing", verb, i+1)
		}
		return args[i]
	}
	switch verb {
	case "repository":
		for _, n := range args {
			s.rig.AddRepository(awstest.Account, n, false)
		}
	case "repository-of":
		s.rig.AddRepository(arg(0), arg(1), false)
	case "empty":
		s.rig.Empty(awstest.Account)
	case "immutable":
		s.rig.AddRepository(awstest.Account, arg(0), true)
	case "create-on-push":
		s.rig.CreateOnPush(arg(0))
	case "add-tags": // rig add-tags REPOSITORY TAG COUNT: TAG-0 and so on for the same image
		n, err := strconv.Atoi(arg(2))
		ts.Check(err)
		s.rig.AddTags(awstest.Account, arg(0), arg(1), n)
	case "mounting":
		s.rig.AllowMounting()
	case "parameter":
		s.rig.SetParameter(arg(0), arg(1))
	case "secret":
		s.rig.SetSecret(arg(0), arg(1))
	case "service":
		cluster, service, _ := strings.Cut(arg(0), "/")
		s.rig.SetService(cluster, service, args[1:]...)
	case "allow":
		s.rig.Allow(arg(0))
	case "deny":
		s.rig.Deny(arg(0))
	case "proxy-refuses": // rig proxy-refuses STATUS, 0 for none
		status, err := strconv.Atoi(arg(0))
		ts.Check(err)
		s.rig.RefuseProxying(status)
	case "refuse-kms":
		s.rig.RefuseKMS()
	case "expire-tokens":
		s.rig.ExpireTokens()
	case "hub-account":
		s.rig.HubAccount(arg(0), arg(1))
	case "differ", "same": // rig differ REPOSITORY TAG REPOSITORY TAG
		one, two := s.rig.Manifest(awstest.Account, arg(0), arg(1)), s.rig.Manifest(awstest.Account, arg(2), arg(3))
		if one == nil || two == nil || bytes.Equal(one, two) != (verb == "same") {
			ts.Fatalf("rig %s: %s:%s is\n%s\nand %s:%s\n%s", verb, arg(0), arg(1), one, arg(2), arg(3), two)
		}
	case "hub-refuse-all":
		s.rig.RefuseAllPulls(awstest.HubLimitOld)
	case "hub-refuse-anonymous":
		s.rig.RefuseAnonymousPulls(map[string]string{"old": awstest.HubLimitOld, "new": awstest.HubLimitNew}[arg(0)])
	case "hub-image": // rig hub-image NAME [BYTES of a second layer]
		size := 0
		if len(args) > 1 {
			size, _ = strconv.Atoi(args[1])
		}
		ts.Check(s.hubImage(arg(0), size))
	case "hub-pulls-left":
		n, err := strconv.Atoi(arg(0))
		ts.Check(err)
		s.rig.HubPullsLeft(n)
	case "policy": // rig policy FILE: what ecsbuild policy printed
		ts.Check(s.policy(ts.ReadFile(arg(0))))
	case "each-action": // rig each-action POLICY REPOSITORY: without any one of them, a run names it
		s.eachAction(ts, ts.ReadFile(arg(0)), arg(1))
	case "built-on": // rig built-on REPOSITORY TAG BASE TAG: it begins with the layers of that one, and has more
		ts.Check(s.builtOn(arg(0), arg(1), arg(2), arg(3)))
	case "damage": // rig damage REPOSITORY TAG: its layers are cut off
		ts.Check(s.damage(arg(0), arg(1)))
	case "layers": // rig layers REPOSITORY TAG: the list of a manifest, as it was put
		var m struct{ Layers json.RawMessage }
		ts.Check(json.Unmarshal(s.rig.Manifest(awstest.Account, arg(0), arg(1)), &m))
		fmt.Fprintf(ts.Stdout(), "%s\n", m.Layers)
	case "index": // rig index REPOSITORY TAG: its media type and platforms
		m, err := v1.ParseIndexManifest(bytes.NewReader(s.rig.Manifest(awstest.Account, arg(0), arg(1))))
		ts.Check(err)
		fmt.Fprintln(ts.Stdout(), m.MediaType)
		for _, image := range m.Manifests {
			fmt.Fprintln(ts.Stdout(), image.Platform)
		}
	case "hub-refuse-blobs":
		s.rig.RefuseHubBlobs()
	case "has-layers": // rig has-layers REPOSITORY TAG HUB-IMAGE
		ts.Check(s.hasLayers(arg(0), arg(1), arg(2), 10<<20)) // smaller ones a classic engine compresses again
	case "has-all-layers":
		ts.Check(s.hasLayers(arg(0), arg(1), arg(2), 0))
	case "fault": // rig fault ACTION TIMES status=… code=… message=… reset cut=BYTES delay=…
		s.rig.Inject(parseFault(ts, arg(0), arg(1), args[2:]))
	case "forget":
		s.rig.Forget()
	case "summary":
		ts.Check(os.WriteFile(ts.MkAbs(arg(0)), []byte(s.rig.Summary()), 0o644))
	case "tags":
		var b strings.Builder
		for t := range s.rig.Tags(awstest.Account, arg(0)) {
			fmt.Fprintln(&b, t)
		}
		ts.Check(os.WriteFile(ts.MkAbs(arg(1)), []byte(b.String()), 0o644))
	case "sent-below": // rig sent-below BYTES
		limit, err := strconv.ParseInt(arg(0), 10, 64)
		ts.Check(err)
		if n := s.rig.Bytes(); n >= limit {
			ts.Fatalf("%d bytes were sent, not below %d", n, limit)
		}
	case "sent-is": // rig sent-is REPOSITORY:TAG… [since REPOSITORY:TAG…]: what these have and those had not, to the byte
		ts.Check(s.sentIs(args))
	case "fetched": // rig fetched FILE: which blobs were fetched, and that each came whole and once
		ts.Check(s.fetched(ts.MkAbs(arg(0))))
	case "rows": // rig rows FILE TITLE: appends what was asked, and forgets it
		f, err := os.OpenFile(ts.MkAbs(arg(0)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		ts.Check(err)
		_, err = fmt.Fprintf(f, "# %s\n%s", strings.Join(args[1:], " "), s.rig.Totals())
		ts.Check(err)
		ts.Check(f.Close())
		s.rig.Forget()
	case "puts-per-second":
		limit, err := strconv.Atoi(arg(0))
		ts.Check(err)
		if n := s.rig.MaxPutsPerSecond(); n > limit {
			ts.Fatalf("%d PutImage in a second, more than %d", n, limit)
		}
	case "has-no": // rig has-no TEXT: neither layer nor config nor file of the rig holds it
		ts.Check(s.hasNo(arg(0)))
	default:
		ts.Fatalf("rig: unknown verb %q", verb)
	}
}

func parseFault(ts *testscript.TestScript, action, times string, rest []string) awstest.Fault {
	n, err := strconv.Atoi(times)
	ts.Check(err)
	f := awstest.Fault{Action: action, Times: n}
	for _, kv := range rest {
		k, v, _ := strings.Cut(kv, "=")
		switch k {
		case "status":
			f.Status, err = strconv.Atoi(v)
		case "code":
			f.Code = v
		case "message":
			f.Message = v
		case "reset":
			f.Reset = true
		case "cut":
			f.CutAfter, err = strconv.ParseInt(v, 10, 64)
		case "delay":
			f.Delay, err = time.ParseDuration(v)
		case "repository":
			f.Repository = v
		default:
			ts.Fatalf("rig fault: unknown %q", kv)
		}
		ts.Check(err)
	}
	return f
}

// busybox puts Debian's static busybox where a Dockerfile can copy it.
func (s *stage) busybox(ts *testscript.TestScript, neg bool, args []string) {
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		ts.Fatalf("busybox: %v; script/engine install debian brings it", err)
	}
	for _, a := range args {
		ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(a)), 0o755))
		ts.Check(os.WriteFile(ts.MkAbs(a), data, 0o755))
	}
}

// sshkey writes a private key that nobody else has.
func sshkey(ts *testscript.TestScript, neg bool, args []string) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(key, "")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(block), 0o600))
}

// binary builds ecsbuild as a release has it.
func binary(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o755))
	if out, err := exec.Command("make", "-s", "-C", "../..", "build",
		"OUT="+ts.MkAbs(args[0])).CombinedOutput(); err != nil {
		ts.Fatalf("make build: %v\n%s", err, out)
	}
	if st, err := os.Stat(ts.MkAbs(args[0])); err != nil || st.Size() >= 35e6 {
		ts.Fatalf("the binary has %d bytes; over 35 MB wants a word in the changelog: %v", st.Size(), err)
	}
}

// collect is "collect FILE TITLE": what the last command said goes to the end of
// a file, without what differs from run to run.
func collect(ts *testscript.TestScript, neg bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	ts.Check(err)
	text := ts.ReadFile("stderr")
	for pattern, with := range map[string]string{
		`sha256:[0-9a-f]{64}`: "sha256:…", `ref [a-z0-9-]+::[a-z0-9]+`: "ref …", regexp.QuoteMeta(ts.Getenv("WORK")): "WORK",
		`mkdir [0-9]+`: "mkdir", `buildkit-mount[0-9]+`: "buildkit-mount", `/tmp/[^ "]*/overlay2/[0-9a-z]+/`: "OVERLAY/",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, with)
	}
	_, err = fmt.Fprintf(f, "# %s\n%s\n", strings.Join(args[1:], " "), text)
	ts.Check(err)
	ts.Check(f.Close())
}

// engineLine is a line of a golden file that one engine has, "[debian] text", or all
// others, "[!debian] text".
var engineLine = regexp.MustCompile(`^\[(!?)([a-z]+)\] (.*)$`)

// golden is "golden FILE WANT": the file must be the golden one, whose lines may be of
// one engine alone. With GOLDEN=DIR what was said is written there instead.
func (s *stage) golden(ts *testscript.TestScript, neg bool, args []string) {
	got := ts.ReadFile(args[0])
	if dir := os.Getenv("GOLDEN"); dir != "" {
		ts.Check(os.WriteFile(filepath.Join(dir, ts.Name()+"."+s.kind), []byte(got), 0o644))
		return
	}
	var want []string
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		if m := engineLine.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil && slices.Contains(kinds, m[2]) {
			if (m[2] == s.kind) == (m[1] == "!") {
				continue
			}
			line = m[3] + "\n"
		}
		want = append(want, line)
	}
	if diff := cmp.Diff(want, slices.Collect(strings.Lines(got))); diff != "" {
		ts.Fatalf("%s (-want +got):\n%s", args[1], diff)
	}
}

// eachAction takes each action of a policy away in turn; the repository is
// emptied each time, so that everything has to be sent.
func (s *stage) eachAction(ts *testscript.TestScript, policy, repo string) {
	actions := regexp.MustCompile(`"([a-z]+:[A-Z][A-Za-z]+)"`).FindAllStringSubmatch(policy, -1)
	if len(actions) < 7 {
		ts.Fatalf("the policy has only %d actions", len(actions))
	}
	for _, a := range actions {
		ts.Check(s.policy(policy))
		s.rig.Deny(a[1])
		s.rig.AddRepository(awstest.Account, repo, false)
		s.rig.Empty(awstest.Account)
		if ts.Exec("ecsbuild", "run", "--progress", "quiet") == nil {
			ts.Fatalf("a run succeeds without %s", a[1])
		}
		if out := ts.ReadFile("stderr"); !strings.Contains(out, "is not allowed to call "+a[1]) ||
			!strings.Contains(out, `"`+a[1]+`"`) {
			ts.Fatalf("without %s the run says:\n%s", a[1], out)
		}
	}
}

// policy puts an IAM policy document into force.
func (s *stage) policy(text string) error {
	var doc struct {
		Statement []struct {
			Effect   string
			Action   []string
			Resource []string
		}
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return err
	}
	var grants []awstest.Grant
	for _, st := range doc.Statement {
		for _, a := range st.Action {
			for _, r := range st.Resource {
				grants = append(grants, awstest.Grant{Action: a, Resource: r})
			}
		}
	}
	s.rig.SetPolicy(grants)
	return nil
}
