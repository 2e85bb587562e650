package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// diskSize is what a host's disk can hold; its file takes what is written.
const diskSize = 40 << 30

// mountDisk gives a host a disk of its own: a new ext4, in a file beside the folder that it is
// mounted on. On a file system that others have used, files that were deleted in the last
// minutes slow every new one (ext4 looks for an inode that has not been freed just now).
func mountDisk(ctx context.Context, dir string) error {
	image := dir + ".disk"
	err := errors.Join(os.MkdirAll(dir, 0o755), write(image, nil), os.Truncate(image, diskSize))
	if err != nil {
		return err
	}
	if _, err := output(ctx, "mkfs.ext4", "-q", "-F", image); err != nil {
		return err
	}
	// Direct, or each page would be in memory twice.
	loop, err := output(ctx, "losetup", "--find", "--show", "--direct-io=on", image)
	if err != nil {
		return err
	}
	// Without noinit_itable the kernel would go on formatting in the background.
	_, err = output(ctx, "mount", "-t", "ext4", "-o", "noinit_itable", loop, dir)
	_, detach := output(ctx, "losetup", "--detach", loop) // once it is unmounted
	return errors.Join(err, detach)
}

// unmountDisk keeps what is on it in its file.
func unmountDisk(dir string) error {
	_, err := output(context.Background(), "umount", dir)
	return err
}

// output runs a short command.
func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
