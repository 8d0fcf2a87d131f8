package kubelet

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// launch is what the first process of a container is told.
type launch struct {
	Scratch   string // a directory for the container's root
	Image     string // the root file system that stands for the image
	Mounts    []mount
	NetNS     string
	Hostname  string
	ReadOnly  bool
	UID, GID  int
	Groups    []int
	NoNewPriv bool
	Dir       string
	Env       []string
	Args      []string
}

type mount struct {
	From, To string
	ReadOnly bool
}

// PodInit is the first process of a container. It has new mount, PID, UTS and
// IPC namespaces already; it makes the root file system, takes the pod's
// network, gives up root where told to, and becomes the container's command.
func PodInit() int {
	runtime.LockOSThread()
	fail := func(what string, err error) int {
		fmt.Fprintf(os.Stderr, "container start: %s: %v\n", what, err)
		return 128
	}
	b, err := os.ReadFile(os.Args[1])
	if err != nil {
		return fail("read", err)
	}
	var l launch
	if err := json.Unmarshal(b, &l); err != nil {
		return fail("parse", err)
	}
	if l.NetNS != "" {
		fd, err := unix.Open(l.NetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		if err != nil {
			return fail("network", err)
		}
	}
	unix.Sethostname([]byte(l.Hostname))
	if err := makeRoot(&l); err != nil {
		return fail("root file system", err)
	}
	if l.Dir != "" {
		os.MkdirAll(l.Dir, 0o755)
		if err := os.Chdir(l.Dir); err != nil {
			return fail("working directory", err)
		}
	}
	if l.ReadOnly {
		if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return fail("read-only root", err)
		}
	}
	os.Clearenv()
	for _, e := range l.Env {
		if k, v, ok := strings.Cut(e, "="); ok {
			os.Setenv(k, v)
		}
	}
	path, err := exec.LookPath(l.Args[0])
	if err != nil {
		return fail("command", err)
	}
	if l.NoNewPriv {
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err := syscall.Setgroups(l.Groups); err != nil {
		return fail("groups", err)
	}
	if err := syscall.Setgid(l.GID); err != nil {
		return fail("group", err)
	}
	if err := syscall.Setuid(l.UID); err != nil {
		return fail("user", err)
	}
	unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	return fail("exec "+path, syscall.Exec(path, l.Args, l.Env))
}

// makeRoot gives the container a root of its own: the image's files, read
// through an overlay whose changes are kept in memory and go with the container.
func makeRoot(l *launch) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	base := l.Scratch
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	root := filepath.Join(base, "root")
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			return err
		}
	}
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", l.Image, base, base)
	if err := unix.Mount("overlay", root, "overlay", 0, opts); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	at := func(to string, dir bool) (string, error) {
		path := filepath.Join(root, to)
		if dir {
			return path, os.MkdirAll(path, 0o755)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return path, err
		}
		if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSymlink != 0 {
			os.Remove(path)
		}
		f, err := os.OpenFile(path, os.O_CREATE, 0o644)
		if err == nil {
			f.Close()
		}
		return path, err
	}
	bind := func(from, to string, ro bool) error {
		fi, err := os.Stat(from)
		if err != nil {
			return err
		}
		path, err := at(to, fi.IsDir())
		if err != nil {
			return err
		}
		if err := unix.Mount(from, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("%s on %s: %w", from, to, err)
		}
		if ro {
			return unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
		}
		return nil
	}
	for _, m := range []string{"/dev", "/sys"} {
		if err := bind(m, m, false); err != nil {
			return err
		}
	}
	proc, err := at("/proc", true)
	if err == nil {
		err = unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err != nil {
		return err
	}
	for _, m := range l.Mounts {
		if err := bind(m.From, m.To, m.ReadOnly); err != nil {
			return err
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Chdir("/")
}
