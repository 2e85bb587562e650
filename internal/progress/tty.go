package progress

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/opencontainers/go-digest"
)

// tty is BuildKit's own display, fed with the steps of all images.
type tty struct {
	status chan *bkclient.SolveStatus
	done   chan struct{}
}

func newTTY(w io.Writer) (*tty, error) {
	f, ok := w.(*os.File)
	if !ok {
		return nil, errors.New("the output is not a file")
	}
	ui, err := progressui.NewDisplay(f, progressui.TtyMode)
	if err != nil {
		return nil, err
	}
	t := &tty{status: make(chan *bkclient.SolveStatus), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		_, _ = ui.UpdateFrom(context.Background(), t.status)
	}()
	return t, nil
}

func (t *tty) draw(e event) {
	if e.note != "" {
		now := time.Now()
		t.status <- &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{
			Digest: digest.FromString(now.String() + e.note), Name: prefix(e.image, e.note), Started: &now, Completed: &now,
		}}}
	}
	if e.status != nil {
		for _, v := range e.status.Vertexes {
			v.Name = prefix(e.image, v.Name)
		}
		t.status <- e.status
	}
}

func (t *tty) close() {
	close(t.status)
	<-t.done
}

// prefix writes "[app 2/4] RUN …" as buildx does with several targets.
func prefix(image, name string) string {
	if image == "" {
		return name
	}
	if rest, ok := strings.CutPrefix(name, "["); ok {
		return "[" + image + " " + rest
	}
	return "[" + image + "] " + name
}
