package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/pipeline"
)

// interrupted is the cause of a context that a signal ended.
type interrupted struct{ signal syscall.Signal }

func (i interrupted) Error() string { return "stopped by " + i.signal.String() }

// exitImmediately are the commands that leave nothing behind wherever they are: a signal
// ends them, whatever they wait for.
var exitImmediately = []string{"plan", "policy", "validate", "completion", "version"}

// handleSignals cancels on the first signal; a second one ends the process.
func handleSignals(cancel context.CancelCauseFunc, atOnce bool) (stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		s, ok := <-signals
		if !ok {
			return
		}
		sig, _ := s.(syscall.Signal)
		if atOnce {
			os.Exit(128 + int(sig))
		}
		cancel(interrupted{sig})
		for first := time.Now(); time.Since(first) < sameSignal; {
			if _, ok := <-signals; !ok {
				return
			}
		}
		pipeline.KillGate()
		fmt.Fprintln(os.Stderr, "ecsbuild: ended at once by a second signal; where tags were moving, some may have moved")
		os.Exit(128 + int(sig))
	}()
	return sync.OnceFunc(func() { signal.Stop(signals); close(signals) })
}

// sameSignal is how far apart two signals may be that were meant as one: timeout(1), for one, sends
// its signal to the program and then to its process group.
const sameSignal = 200 * time.Millisecond
