package buildspec

import (
	"mvdan.cc/sh/v3/syntax"
)

// A pull is a docker pull of an image, which may be for its cache.
type pull struct {
	at   *command
	name reference
}

// A converter reads the commands of a buildspec, in their order.
type converter struct {
	*shell
	commands []*command
	builds   []*build
	local    map[string]*build // by the names that images have here
	services map[string]*build // of a Compose file
	started  []started         // of such a file
	pulls    []pull
	tagged   []reference // images that are not built here, and get another name
	foreign  []reference // those names
	files    []*file     // definitions
	exports  map[string]bool
	read     func(path string) ([]byte, error) // a file below the folder of the sources

	hubUser, hubPassword string // variables, "" for none
	notes                []string
	group                *syntax.Stmt
	source               *command // that sets variables nobody sees, nil for none
	allExport            bool     // set -a
	pipefail             bool     // set -o pipefail
	functions            map[string]*syntax.Stmt
	calling              map[string]bool // functions
	times                map[string]int  // how often a variable is set

	names         func([]*outcome) // gives images without containers a name, nil for none
	noDefinitions bool             // no definitions file is written where none was
	at            *command         // after which ecsbuild runs, nil for none
}

func newConverter(read func(path string) ([]byte, error)) *converter {
	return &converter{shell: newShell(), read: read, local: map[string]*build{}, services: map[string]*build{},
		exports: map[string]bool{}, functions: map[string]*syntax.Stmt{}, calling: map[string]bool{}, times: map[string]int{}}
}

func (c *converter) problem(cmd *command, why string) {
	if cmd.why == "" {
		cmd.why = why
	}
}
