package enginetest

import (
	"context"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	controlapi "github.com/moby/buildkit/api/services/control"
	apitypes "github.com/moby/buildkit/api/types"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/session/grpchijack"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A Build is one build as the engine sees it.
type Build struct {
	Attrs         map[string]string // of the Dockerfile frontend
	Exporter      string            // "moby", "oci", "" for none
	ExporterAttrs map[string]string
	CacheImports  []string // types
	CacheExports  []string
	Session       session.Caller

	ctx  context.Context
	news chan<- *controlapi.StatusResponse
}

// Step tells of a step that has begun and written some lines.
func (b *Build) Step(name string, output ...string) {
	v := &controlapi.Vertex{Digest: digest.FromString(name).String(), Name: name, Started: timestamppb.Now()}
	s := &controlapi.StatusResponse{Vertexes: []*controlapi.Vertex{v}}
	for _, text := range output {
		s.Logs = append(s.Logs, &controlapi.VertexLog{Vertex: v.Digest, Stream: 1, Msg: []byte(text),
			Timestamp: timestamppb.Now()})
	}
	b.Tell(s)
}

// End tells that a step has ended; failure is "" for one that went well.
func (b *Build) End(name, failure string) {
	b.Tell(&controlapi.StatusResponse{Vertexes: []*controlapi.Vertex{{
		Digest: digest.FromString(name).String(), Name: name, Started: timestamppb.Now(), Completed: timestamppb.New(time.Now()), Error: failure}}})
}

// Ran tells of a step that took some time until now, or whose result was found in a cache.
func (b *Build) Ran(name string, took time.Duration, cached bool) {
	now := time.Now()
	b.Tell(&controlapi.StatusResponse{Vertexes: []*controlapi.Vertex{{
		Digest: digest.FromString(name).String(), Name: name, Cached: cached, Started: timestamppb.New(now.Add(-took)), Completed: timestamppb.New(now)}}})
}

// Tell sends any news.
func (b *Build) Tell(s *controlapi.StatusResponse) {
	select {
	case b.news <- s:
	case <-b.ctx.Done():
	}
}

// Export is where BuildKit puts the blobs of an image.
func (b *Build) Export() content.Store { return sessioncontent.NewCallerStore(b.Session, "export") }

// Credentials asks the client for an account.
func (b *Build) Credentials(host string) (user, password string, err error) {
	a, err := auth.NewAuthClient(b.Session.Conn()).Credentials(b.ctx, &auth.CredentialsRequest{Host: host})
	return a.GetUsername(), a.GetSecret(), err
}

// Secret asks the client for the value of a secret.
func (b *Build) Secret(id string) (string, error) {
	data, err := secrets.GetSecret(b.ctx, b.Session, id)
	return string(data), err
}

// Files fetches a folder of the client: "context" or "dockerfile".
func (b *Build) Files(name, into string) error {
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	return filesync.FSSync(b.ctx, b.Session, filesync.FSSendRequestOpt{Name: name, DestDir: into})
}

// job is a build that runs; its status goes to everyone who asks for it.
type job struct {
	news chan *controlapi.StatusResponse
	done chan struct{}
}

func (e *Engine) job(ref string) *job {
	e.mu.Lock()
	defer e.mu.Unlock()
	j := e.jobs[ref]
	if j == nil {
		j = &job{news: make(chan *controlapi.StatusResponse), done: make(chan struct{})}
		e.jobs[ref] = j
	}
	return j
}

// control is BuildKit's own service.
type control struct {
	controlapi.UnimplementedControlServer
	engine *Engine
}

func (c *control) Info(context.Context, *controlapi.InfoRequest) (*controlapi.InfoResponse, error) {
	return &controlapi.InfoResponse{BuildkitVersion: &apitypes.BuildkitVersion{Version: "v0.34.2"}}, nil
}

func (c *control) ListWorkers(context.Context, *controlapi.ListWorkersRequest) (*controlapi.ListWorkersResponse,
	error) {
	platform := c.engine.Platform
	if platform == "" {
		platform = "linux/amd64"
	}
	system, arch, _ := strings.Cut(platform, "/")
	w := &apitypes.WorkerRecord{ID: "w", Labels: c.engine.Labels,
		Platforms: []*pb.Platform{{OS: system, Architecture: arch}}}
	return &controlapi.ListWorkersResponse{Record: []*apitypes.WorkerRecord{w}}, nil
}

// Prune remembers what is to be removed, and removes nothing.
func (c *control) Prune(req *controlapi.PruneRequest, _ grpc.ServerStreamingServer[controlapi.UsageRecord]) error {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	c.engine.pruned = append(c.engine.pruned, req.Filter...)
	return nil
}

func (c *control) Session(stream grpc.BidiStreamingServer[controlapi.BytesMessage, controlapi.BytesMessage]) error {
	conn, closed, opts := grpchijack.Hijack(stream)
	defer conn.Close()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(c.engine.ctx, cancel)()
	var wait sync.WaitGroup
	wait.Go(func() { <-closed; cancel() })
	err := c.engine.sessions.HandleConn(ctx, conn, opts)
	wait.Wait()
	return err
}

func (c *control) Status(r *controlapi.StatusRequest,
	stream grpc.ServerStreamingServer[controlapi.StatusResponse]) error {
	j := c.engine.job(r.Ref)
	for {
		select {
		case s := <-j.news:
			if err := stream.Send(s); err != nil {
				return err
			}
		case <-j.done:
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (c *control) Solve(ctx context.Context, r *controlapi.SolveRequest) (*controlapi.SolveResponse, error) {
	j := c.engine.job(r.Ref)
	defer close(j.done)
	caller, err := c.engine.sessions.Get(ctx, r.Session, false)
	if err != nil {
		return nil, err
	}
	b := &Build{Attrs: r.FrontendAttrs, Session: caller, ctx: ctx, news: j.news}
	for _, x := range r.Exporters {
		b.Exporter, b.ExporterAttrs = x.Type, x.Attrs
	}
	for _, x := range r.GetCache().GetImports() {
		b.CacheImports = append(b.CacheImports, x.Type)
	}
	for _, x := range r.GetCache().GetExports() {
		b.CacheExports = append(b.CacheExports, x.Type)
	}
	response, err := c.engine.Build(ctx, b)
	return &controlapi.SolveResponse{ExporterResponse: response}, err
}
