package cachemount

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Where a step of a build finds the mounts and archives, each by its number.
const (
	MountsFolder = "/mounts" // /mounts/0, …
	InFolder     = "/in"     // /in/0.tar.zst, …
	OutFolder    = "/out"    // /out/0.tar.zst, 0.json, …
)

// ArchiveName is the file of a mount's archive.
func ArchiveName(n int) string { return strconv.Itoa(n) + ".tar.zst" }

// ResultName is the file of a mount's Result.
func ResultName(n int) string { return strconv.Itoa(n) + ".json" }

// A Result is what became of a mount that was to be packed.
type Result struct {
	Summary
	Packed  bool   `json:"packed"`            // false where it holds what it held before, or nothing
	Problem string `json:"problem,omitempty"` // why it was not packed
}

// Command is the name of the command that Main is.
const Command = "cache-mount"

// UnpackArgs are the arguments of the step that fills the mounts. once makes it another step
// than all before, so that it runs.
func UnpackArgs(once string) []string { return []string{Command, "unpack", once} }

// PackArgs are the arguments of the step that packs the mounts; listings are those of the
// archives that there are, "" for none.
func PackArgs(once string, listings []string) []string {
	return append([]string{Command, "pack", once}, listings...)
}

// Main is the command of a step: the arguments come from UnpackArgs or PackArgs.
func Main(args []string) error { return run(args, "/") }

func run(args []string, root string) error {
	mounts, in, out := filepath.Join(root, MountsFolder), filepath.Join(root, InFolder), filepath.Join(root, OutFolder)
	switch {
	case len(args) == 2 && args[0] == "unpack":
		entries, err := os.ReadDir(in)
		if err != nil {
			return err
		}
		for n := range entries {
			if err := unpackMount(filepath.Join(in, ArchiveName(n)), filepath.Join(mounts, strconv.Itoa(n))); err != nil {
				return fmt.Errorf("mount %d: %w", n, err)
			}
		}
		return nil
	case len(args) > 2 && args[0] == "pack":
		for n, listing := range args[2:] {
			if err := packMount(filepath.Join(mounts, strconv.Itoa(n)), out, n, listing); err != nil {
				return fmt.Errorf("mount %d: %w", n, err)
			}
		}
		return nil
	}
	return errors.New("this command runs inside of a build, for cache_mounts")
}

// unpackMount fills a mount that is empty. An empty archive stands for none.
func unpackMount(archive, mount string) error {
	f, err := os.Open(archive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() == 0 {
		return err
	}
	_, err = Fill(f, mount, DefaultLimits)
	return err
}

func packMount(mount, out string, n int, listing string) error {
	var r Result
	var err error
	r.Summary, err = List(mount, DefaultLimits)
	var limit *LimitError
	switch {
	case errors.As(err, &limit):
		r.Problem = err.Error()
	case err != nil:
		return err
	case r.Files > 0 && r.Listing != listing:
		r.Packed = true
		f, err := os.OpenFile(filepath.Join(out, ArchiveName(n)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		r.Summary, err = Pack(mount, f, DefaultLimits)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, ResultName(n)), data, 0o600)
}
