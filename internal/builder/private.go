package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/privateengine"
)

// Choice is what decides which engine builds.
type Choice struct {
	Endpoint endpoint.Endpoint // the engine that the environment names
	Docker   endpoint.Endpoint // the engine that docker's own commands reach
	Builder  plan.Builder
	Images   []plan.Image // what auto looks at
	Environ  []string     // of the process: a private engine gets its proxies and certificates
	Why      func(string) // is told why auto starts a private engine
}

// Open connects to the engine of a choice, and starts it where it is a private one. Its
// error is an *endpoint.UnreachableError, an *UnsupportedError, or a *privateengine.UnavailableError.
func Open(ctx context.Context, c Choice) (*Engine, error) {
	e, err := c.open(ctx)
	if err == nil {
		e.user = c.Docker
	}
	return e, err
}

func (c Choice) open(ctx context.Context) (*Engine, error) {
	if c.Builder == plan.BuilderPrivate {
		return c.startPrivate(ctx, c.dataRoot(ctx))
	}
	e, err := Connect(ctx, c.Endpoint)
	if err != nil || c.Builder == plan.BuilderDocker || c.Builder == plan.BuilderBuildKit {
		return e, err
	}
	unsupported := e.needsPrivate(c.Images)
	if unsupported == nil {
		return e, nil
	}
	if !c.Endpoint.IsLocal() {
		e.Close()
		unsupported.NoPrivate = &privateengine.UnavailableError{Missing: []string{
			"the engine that the environment names is on another host, and that one builds"}}
		return nil, unsupported
	}
	private, err := c.startPrivate(ctx, e.root)
	e.Close()
	var unavailable *privateengine.UnavailableError
	if errors.As(err, &unavailable) {
		unsupported.NoPrivate = unavailable
		return nil, unsupported
	}
	if err == nil {
		c.Why(fmt.Sprintf("starting a private engine for this run: %s asks for %s, which %s cannot do", unsupported.Image,
			unsupported.Key, e))
	}
	return private, err
}

// needsPrivate is the first thing that images ask for, and that a private engine alone can do.
func (e *Engine) needsPrivate(images []plan.Image) *UnsupportedError {
	for _, img := range images {
		var u *UnsupportedError
		if errors.As(e.Check(img, func(string) {}), &u) && u.Private {
			return u
		}
	}
	return nil
}

// dataRootTimeout is for an engine that is asked for nothing but where its data lie.
const dataRootTimeout = 2 * time.Second

// dataRoot is where the engine that runs here keeps its images, "" where it does not say.
func (c Choice) dataRoot(ctx context.Context) string {
	if !strings.HasPrefix(c.Endpoint.Docker, "unix://") {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, dataRootTimeout)
	defer cancel()
	e, err := Connect(ctx, c.Endpoint)
	if err != nil {
		return ""
	}
	defer e.Close()
	return e.root
}

func (c Choice) startPrivate(ctx context.Context, dataRoot string) (*Engine, error) {
	needs, err := privateengine.Find(ctx, dataRoot)
	if err != nil {
		return nil, err
	}
	p, err := privateengine.Start(ctx, needs, engineEnvironment(c.Environ))
	var unavailable *privateengine.UnavailableError
	if errors.As(err, &unavailable) {
		return nil, err
	}
	if err != nil {
		return nil, &endpoint.UnreachableError{Endpoint: endpoint.Endpoint{Docker: "a private engine"}, Err: err,
			Fix: "try once more, or use builder: docker"}
	}
	e, err := Connect(ctx, endpoint.Endpoint{Docker: "unix://" + p.Socket})
	if err != nil {
		p.Close()
		return nil, err
	}
	e.private = p
	if e.Store != Containerd {
		e.Close()
		return nil, &privateengine.UnavailableError{Missing: []string{fmt.Sprintf(
			"%s %s starts without the containerd image store", needs.Dockerd, needs.Version)}}
	}
	return e, nil
}

// engineEnvironment is what an engine takes from the environment to reach registries.
func engineEnvironment(environ []string) (out []string) {
	names := []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(names, strings.ToUpper(name)) {
			out = append(out, kv)
		}
	}
	return out
}
