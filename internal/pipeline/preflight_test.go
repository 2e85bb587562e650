package pipeline

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// TestHubBases counts what Docker Hub counts as pulls.
func TestHubBases(t *testing.T) {
	file, err := dockerfile.Parse([]byte("FROM php:8\nCOPY --from=docker.io/library/composer:2 / /\nCOPY --from=ghcr.io/x/y:1 / /\nCOPY --from=acme/tool / /\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := &plan.Plan{Images: []plan.Image{{Containers: []string{"a"}}, {Containers: []string{"b"}},
		{Containers: []string{"remote"}}}}
	if n := hubBases(p, dockerfile.Files{"a": file, "b": file}); n != 3 {
		t.Errorf("%d", n)
	}
	check, err := CheckHub(t.Context(), p, nil, nil, "test")
	if err != nil || check.Asked || !strings.Contains(check.Text, "no base image comes from Docker Hub") {
		t.Errorf("%+v, %v", check, err)
	}
}

// TestCheckServices asks AWS where a service is named alone.
func TestCheckServices(t *testing.T) {
	asked := 0
	load := func(context.Context) (*aws.Client, error) { asked++; return nil, errors.New("no region") }
	p := &plan.Plan{Definitions: []plan.Definitions{{}}}
	if err := CheckServices(t.Context(), load, p); err != nil || asked != 0 {
		t.Errorf("%v after %d calls", err, asked)
	}
	p.Definitions[0].Service = &plan.Service{Cluster: "c", Name: "s"}
	if err := CheckServices(t.Context(), load, p); err == nil || asked != 1 {
		t.Errorf("%v after %d calls", err, asked)
	}
}
