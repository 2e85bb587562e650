package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// folderLocks are the folders that a run reads while others may write to them. The locks
// end with the process.
type folderLocks struct {
	mu    sync.Mutex
	files map[string]*os.File // by folder
}

// share keeps others from deleting what is in a folder, until release.
func (l *folderLocks) share(folder string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.files[folder] != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(folder+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return errors.New("another run is writing to " + folder)
	}
	if l.files == nil {
		l.files = map[string]*os.File{}
	}
	l.files[folder] = f
	return nil
}

// own says whether no other run uses a folder, and keeps others from beginning to.
func (l *folderLocks) own(folder string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.files[folder]
	if f == nil {
		return false
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return true
	}
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) // which the attempt has lost
	return false
}

func (l *folderLocks) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		_ = f.Close()
	}
	l.files = nil
}
