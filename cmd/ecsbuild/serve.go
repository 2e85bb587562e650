package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/localregistry"
)

type serveCmd struct {
	Directory string `short:"C" placeholder:"DIR" help:"Folder of the sources (default: the working directory)."`
}

// Run serves until it is interrupted, which is how it is meant to end.
func (c *serveCmd) Run(a *app) error {
	dir, err := filepath.Abs(c.Directory)
	if err != nil {
		return &fault.Error{What: err.Error()}
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return &fault.Error{What: fmt.Sprintf("there is no directory %s", dir),
			Fix: "name the folder of your sources with -C"}
	}
	addr, stop, err := localregistry.New(localFolder(dir)).Serve(a.ctx)
	if err != nil {
		return fmt.Errorf("the local registry cannot start: %w", err)
	}
	defer stop()
	fmt.Fprintln(a.stdout, addr)
	fmt.Fprintf(a.stderr, "ecsbuild: serving %s until interrupted\n", localFolder(dir))
	<-a.ctx.Done()
	return nil
}
