package privateengine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Needs is what a private engine is made of.
type Needs struct {
	Dockerd, Containerd string // paths of the binaries
	Version             string // of dockerd: "28.5.2"
	Folder              string // of the engines' data, which need not exist
}

// minVersion is the first dockerd with a containerd image store.
const minVersion = 24

// An UnavailableError says what a private engine would need that is not here.
type UnavailableError struct {
	Missing []string // "dockerd is not on PATH"
}

func (e *UnavailableError) Error() string {
	return "a private engine cannot start here: " + strings.Join(e.Missing, "; ")
}

// folderName is that of the data, below the folder that is chosen for it.
const folderName = "ecsbuild"

// Find looks for what a private engine needs. dataRoot is where the engine that runs here
// keeps its images, "" where that is not known: overlayfs works there, as it does not on the
// overlayfs that a container's own files lie on. Its error is an *UnavailableError.
func Find(ctx context.Context, dataRoot string) (*Needs, error) {
	var missing []string
	fail := func(format string, args ...any) { missing = append(missing, fmt.Sprintf(format, args...)) }
	n := &Needs{}
	binary := func(name string) string {
		path, err := exec.LookPath(name)
		switch {
		case errors.Is(err, exec.ErrDot): // it would be one of the sources
			fail("%s is on PATH by a relative folder alone", name)
			return ""
		case err != nil:
			fail("%s is not on PATH", name)
		}
		return path
	}
	n.Dockerd, n.Containerd, _ = binary("dockerd"), binary("containerd"), binary("runc")
	if n.Dockerd != "" {
		var err error
		switch n.Version, err = version(ctx, n.Dockerd); {
		case err != nil:
			fail("%s does not say its version: %v", n.Dockerd, err)
		case tooOld(n.Version):
			fail("%s is %s, which has no containerd image store: it needs %d.0 or later", n.Dockerd, n.Version, minVersion)
		}
	}
	if !canMount {
		fail("ecsbuild does not run on Linux")
	} else if os.Geteuid() != 0 {
		fail("ecsbuild does not run as root")
	} else if n.Folder = findFolder(dataRoot, fail); n.Folder != "" {
		n.Folder = filepath.Join(n.Folder, folderName)
	}
	if len(missing) > 0 {
		return nil, &UnavailableError{Missing: missing}
	}
	return n, nil
}

// A socket's path has 107 bytes at most. containerd and dockerd have some below a run's folder.
const (
	maxSocketPath = 107
	longestSocket = "/" + folderName + "/99/run/exec/libnetwork/0123456789ab.sock"
)

// findFolder returns the first folder where overlayfs works.
func findFolder(dataRoot string, fail func(format string, args ...any)) string {
	folders := []string{"/var/lib/docker", "/var/lib", os.TempDir()}
	if dataRoot != "" {
		folders = append([]string{dataRoot}, folders...)
	}
	var why []string
	for _, dir := range folders {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			continue
		}
		err := tryOverlay(dir)
		if len(dir)+len(longestSocket) > maxSocketPath {
			err = errors.New("its path is too long for a socket")
		}
		if err == nil {
			return dir
		}
		why = append(why, fmt.Sprintf("%s (%v)", dir, err))
	}
	fail("overlayfs works in none of these folders: %s; in a container this needs privileged mode and a volume, as CodeBuild's /var/lib/docker is one",
		strings.Join(why, ", "))
	return ""
}

var versionPattern = regexp.MustCompile(`version v?([^, ]+),`)

// versionTimeout is for a dockerd that is something else.
const versionTimeout = 5 * time.Second

// version asks a dockerd.
func version(ctx context.Context, dockerd string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, dockerd, "--version")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // and no secret
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("it says %q", strings.TrimSpace(string(out)))
	}
	return string(m[1]), nil
}

// tooOld takes a development build, whose version is no number, for a new one.
func tooOld(version string) bool {
	text, _, _ := strings.Cut(version, ".")
	major, err := strconv.Atoi(text)
	return err == nil && major < minVersion
}
