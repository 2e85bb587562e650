package awstest

import (
	"os"
	"strings"
)

// Main is for the TestMain of a package that talks to the rig from its own process: it
// starts one, makes it the world of the process, and gives run's exit code. It must
// come first, since net/http reads its proxy once.
func Main(use func(*Rig), run func() int) int {
	dir, err := os.MkdirTemp("", "ecsbuild-rig-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	r, err := Start(dir)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	for _, kv := range r.Environ() {
		key, value, _ := strings.Cut(kv, "=")
		if err := os.Setenv(key, value); err != nil {
			panic(err)
		}
	}
	use(r)
	return run()
}
