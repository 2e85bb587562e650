package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/config"
	"github.com/ecsbuild/ecsbuild/internal/diagnose"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/iampolicy"
	"github.com/ecsbuild/ecsbuild/internal/imagedef"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
)

type validateCmd struct {
	File           string `arg:"" optional:"" default:"imagedefinitions.json" help:"The definitions file (default: imagedefinitions.json); - for standard input."`
	Cluster        string `default:"default" help:"Cluster of --service (default: default)."`
	Service        string `xor:"live" placeholder:"NAME" help:"Check the names against the task definition of this live service."`
	TaskDefinition string `xor:"live" placeholder:"FAMILY" help:"Check the names against this task definition (family, family:revision or ARN)."`
}

// maxDefinitions bounds what validate reads, in bytes.
const maxDefinitions = 4 << 20

// Run checks a definitions file, and says everything that is wrong with it.
func (c *validateCmd) Run(a *app) error {
	data, err := readDefinitions(c.File)
	if err != nil {
		return err
	}
	defs, problems := imagedef.Validate(data,
		func(r string) (bool, string) { return !config.IsRegion(r), config.ClosestRegion(r) })
	var errs fault.Errors
	for _, p := range problems {
		errs = append(errs, &fault.Error{Place: fmt.Sprintf("%s:%d:%d", c.File, p.Line, p.Column), What: p.What, Fix: p.Fix})
	}
	if len(errs) > 0 {
		return errs
	}
	var names []string
	for _, d := range defs {
		names = append(names, d.Name)
	}
	if c.Service != "" || c.TaskDefinition != "" {
		load := func(ctx context.Context) (*aws.Client, error) { return aws.Load(ctx, config.Region(a.environ)) }
		if err := pipeline.CheckLive(a.ctx, load,
			aws.Live{Cluster: c.Cluster, Service: c.Service, TaskDefinition: c.TaskDefinition}, names); err != nil {
			region := config.Region(a.environ)
			return &failure{err: err, facts: diagnose.Facts{Scope: iampolicy.Scope{Region: region,
				Caller: callerAccount(a.getenv)}}}
		}
	}
	containers := "1 container"
	if len(defs) != 1 {
		containers = fmt.Sprintf("%d containers", len(defs))
	}
	fmt.Fprintf(a.stdout, "%s: ok, %s\n", c.File, containers)
	return nil
}

func readDefinitions(name string) ([]byte, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, &fault.Error{What: "cannot read " + name, Why: reason(err),
				Fix: "the deploy action looks for imagedefinitions.json at the root of the artifact"}
		}
		defer f.Close()
	}
	data, err := io.ReadAll(io.LimitReader(f, maxDefinitions))
	if err != nil {
		return nil, &fault.Error{What: "cannot read " + name, Why: reason(err)}
	}
	if len(data) == maxDefinitions {
		size := fmt.Sprintf("more than %d", maxDefinitions)
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			size = strconv.FormatInt(st.Size(), 10)
		}
		return nil, &fault.Error{
			What: fmt.Sprintf("%s has %s bytes, and the deploy action reads at most %d", name, size, imagedef.MaxSize),
			Fix:  "split the containers over several files",
		}
	}
	return data, nil
}

// reason is a file error without the path, which the message has already.
func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
