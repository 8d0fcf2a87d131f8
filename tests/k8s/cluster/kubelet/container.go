package kubelet

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourceapi "k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/fieldpath"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

type container struct {
	p        *pod
	spec     *v1.Container
	init     bool
	finished chan struct{}

	mu       sync.Mutex
	state    v1.ContainerState
	last     v1.ContainerState
	restarts int32
	ready    bool
	started  bool
	pid      int
	env      []string
	launch   *launch
	exited   chan struct{} // closed when the running process has gone
	over     bool
}

func newContainer(p *pod, spec *v1.Container, init bool) *container {
	return &container{p: p, spec: spec, init: init, finished: make(chan struct{}),
		state: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
}

func (c *container) sidecar() bool {
	return c.init && c.spec.RestartPolicy != nil && *c.spec.RestartPolicy == v1.ContainerRestartPolicyAlways
}

func (c *container) isStarted() bool  { c.mu.Lock(); defer c.mu.Unlock(); return c.started }
func (c *container) isFinished() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.over }
func (c *container) exitCode() int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.state.Terminated; t != nil {
		return t.ExitCode
	}
	return -1
}

func (c *container) set(f func()) {
	c.mu.Lock()
	f()
	c.mu.Unlock()
	c.p.mark()
}

func (c *container) status(why string) v1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := c.started
	s := v1.ContainerStatus{Name: c.spec.Name, Image: c.spec.Image, ImageID: "local:" + c.spec.Image, State: c.state, LastTerminationState: c.last,
		RestartCount: c.restarts, Ready: c.ready, Started: &started}
	if c.state.Running != nil || c.state.Terminated != nil || c.last.Terminated != nil {
		s.ContainerID = fmt.Sprintf("process://%s/%s/%d", c.p.uid, c.spec.Name, c.restarts)
	}
	if w := c.state.Waiting; w != nil && w.Message == "" && why != "" {
		s.State = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: w.Reason, Message: why}}
	}
	if c.init && !c.sidecar() {
		s.Ready = c.over && c.state.Terminated != nil && c.state.Terminated.ExitCode == 0
	}
	return s
}

// loop runs the container until it has ended for good.
func (c *container) loop() {
	defer close(c.finished)
	defer c.set(func() { c.over = true })
	backoff := time.Duration(0)
	for {
		began := time.Now()
		err := c.run()
		if err != nil {
			reason := "CreateContainerConfigError"
			if e, ok := err.(imageError); ok {
				reason, err = "ErrImagePull", e.error
			}
			c.set(func() {
				c.state = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason, Message: err.Error()}}
			})
			c.p.event(v1.EventTypeWarning, "Failed", "Error: %v", err)
			if !c.p.pause(2 * time.Second) {
				return
			}
			continue
		}
		code := c.exitCode()
		policy := c.p.object().Spec.RestartPolicy
		again := policy == v1.RestartPolicyAlways && !c.init || c.sidecar() || code != 0 && policy != v1.RestartPolicyNever
		if c.p.ended() || !again {
			return
		}
		if time.Since(began) > time.Minute {
			backoff = 0
		}
		c.set(func() {
			c.last = c.state
			if backoff > 0 {
				c.state = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: fmt.Sprintf("back-off %s restarting failed container", backoff)}}
			}
		})
		if backoff > 0 {
			c.p.event(v1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s", c.spec.Name)
		}
		if !c.p.pause(backoff) {
			c.set(func() { c.state = c.last })
			return
		}
		c.mu.Lock()
		c.restarts++
		c.mu.Unlock()
		backoff = min(max(2*backoff, time.Second), 20*time.Second)
	}
}

type imageError struct{ error }

func (c *container) logFile(restart int32) string {
	return filepath.Join(c.p.dir, "logs", fmt.Sprintf("%s.%d.log", c.spec.Name, restart))
}

// run starts the process and waits for its end.
func (c *container) run() error {
	l, err := c.prepare()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.p.dir, "logs"), 0o755); err != nil {
		return err
	}
	b, _ := json.Marshal(l)
	spec := filepath.Join(c.p.dir, c.spec.Name+".launch.json")
	if err := os.WriteFile(spec, b, 0o600); err != nil {
		return err
	}
	out, err := os.Create(c.logFile(c.restarts))
	if err != nil {
		return err
	}
	defer out.Close()
	os.Remove(c.logFile(c.restarts - 2))
	cmd := exec.Command("/proc/self/exe", "pod-init", spec)
	cmd.Args[0] = "k8slocal"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	began := metav1.Now()
	c.set(func() {
		c.pid, c.exited, c.env, c.launch = cmd.Process.Pid, exited, l.Env, l
		c.state = v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: began}}
	})
	c.p.event(v1.EventTypeNormal, "Started", "Started container %s", c.spec.Name)
	ctx, cancel := context.WithCancel(context.Background())
	go c.probes(ctx, exited)
	if c.spec.Lifecycle != nil && c.spec.Lifecycle.PostStart != nil {
		go c.hook(c.spec.Lifecycle.PostStart, 30*time.Second)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for name, r := range map[string]io.Reader{"stdout": stdout, "stderr": stderr} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			br := bufio.NewReaderSize(r, 64<<10)
			for {
				line, err := br.ReadSlice('\n')
				if len(line) > 0 {
					tag := "F"
					if line[len(line)-1] != '\n' {
						tag = "P"
					}
					mu.Lock()
					fmt.Fprintf(out, "%s %s %s %s", time.Now().UTC().Format(logTime), name, tag, line)
					if tag == "P" {
						out.WriteString("\n")
					}
					mu.Unlock()
				}
				if err != nil && err != bufio.ErrBufferFull {
					return
				}
			}
		}()
	}
	wg.Wait()
	cmd.Wait()
	cancel()
	code, sig := int32(cmd.ProcessState.ExitCode()), int32(0)
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		sig = int32(ws.Signal())
		code = 128 + sig
	}
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	c.set(func() {
		c.pid, c.ready, c.started = 0, false, false
		c.state = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: code, Reason: reason, StartedAt: began, FinishedAt: metav1.Now(),
			ContainerID: fmt.Sprintf("process://%s/%s/%d", c.p.uid, c.spec.Name, c.restarts)}}
	})
	close(exited)
	return nil
}

// prepare works out the command, environment, user and mounts.
func (c *container) prepare() (*launch, error) {
	o := c.p.object()
	img, err := c.p.k.image(c.spec.Image)
	if err != nil {
		return nil, err
	}
	c.p.mu.Lock()
	ip, netns, vols := c.p.ip, c.p.netns, c.p.volumes
	c.p.mu.Unlock()
	l := &launch{NetNS: netns, Hostname: hostname(o), Dir: c.spec.WorkingDir, Image: img.Root,
		Scratch: filepath.Join(c.p.dir, "root-"+c.spec.Name)}
	if o.Spec.HostNetwork {
		l.Hostname = o.Spec.NodeName
	}

	// environment
	var order []string
	env := map[string]string{}
	put := func(k, v string) {
		if _, ok := env[k]; !ok {
			order = append(order, k)
		}
		env[k] = v
	}
	put("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	put("HOSTNAME", l.Hostname)
	put("HOME", "/")
	for _, e := range img.Env {
		if k, v, ok := strings.Cut(e, "="); ok {
			put(k, v)
		}
	}
	put("KUBERNETES_SERVICE_HOST", strings.TrimSuffix(strings.Split(c.p.k.net.services, "/")[0], "0")+"1")
	put("KUBERNETES_SERVICE_PORT", "443")
	for _, f := range c.spec.EnvFrom {
		switch {
		case f.ConfigMapRef != nil:
			cm, err := c.p.k.configMaps.ConfigMaps(o.Namespace).Get(f.ConfigMapRef.Name)
			if err != nil {
				if f.ConfigMapRef.Optional != nil && *f.ConfigMapRef.Optional && apierrors.IsNotFound(err) {
					continue
				}
				return nil, err
			}
			for k, v := range cm.Data {
				put(f.Prefix+k, v)
			}
		case f.SecretRef != nil:
			s, err := c.p.k.secrets.Secrets(o.Namespace).Get(f.SecretRef.Name)
			if err != nil {
				if f.SecretRef.Optional != nil && *f.SecretRef.Optional && apierrors.IsNotFound(err) {
					continue
				}
				return nil, err
			}
			for k, v := range s.Data {
				put(f.Prefix+k, string(v))
			}
		}
	}
	for _, e := range c.spec.Env {
		if e.ValueFrom == nil {
			put(e.Name, expansion.Expand(e.Value, expansion.MappingFuncFor(env)))
			continue
		}
		v, found, err := c.valueFrom(o, ip, e.ValueFrom)
		if err != nil {
			return nil, err
		}
		if found {
			put(e.Name, v)
		}
	}
	for _, k := range order {
		l.Env = append(l.Env, k+"="+env[k])
	}

	// command
	command, args := img.Entrypoint, []string(nil)
	if len(c.spec.Command) > 0 {
		command, args = c.spec.Command, nil
	}
	if len(c.spec.Args) > 0 {
		args = c.spec.Args
	}
	fromSpec := expansion.MappingFuncFor(env)
	for _, a := range append(append([]string{}, command...), args...) {
		l.Args = append(l.Args, expansion.Expand(a, fromSpec))
	}
	if len(l.Args) == 0 {
		return nil, fmt.Errorf("image %q gives no command", c.spec.Image)
	}

	// user
	uid := &img.User
	var gid *int64
	var nonRoot *bool
	if sc := o.Spec.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			uid = sc.RunAsUser
		}
		gid, nonRoot = sc.RunAsGroup, sc.RunAsNonRoot
		for _, g := range sc.SupplementalGroups {
			l.Groups = append(l.Groups, int(g))
		}
		if sc.FSGroup != nil {
			l.Groups = append(l.Groups, int(*sc.FSGroup))
		}
	}
	if sc := c.spec.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			uid = sc.RunAsUser
		}
		if sc.RunAsGroup != nil {
			gid = sc.RunAsGroup
		}
		if sc.RunAsNonRoot != nil {
			nonRoot = sc.RunAsNonRoot
		}
		l.ReadOnly = sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
		l.NoNewPriv = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
	}
	l.UID = int(*uid)
	if gid != nil {
		l.GID = int(*gid)
	}
	if nonRoot != nil && *nonRoot && l.UID == 0 {
		return nil, fmt.Errorf("container has runAsNonRoot and image will run as root")
	}

	// mounts
	l.Mounts = append(l.Mounts, mount{filepath.Join(c.p.dir, "hosts"), "/etc/hosts", false})
	if netns != "" {
		l.Mounts = append(l.Mounts, mount{filepath.Join(c.p.dir, "resolv.conf"), "/etc/resolv.conf", false})
	}
	for _, m := range c.spec.VolumeMounts {
		from, ok := vols[m.Name]
		if !ok {
			return nil, fmt.Errorf("no volume %q", m.Name)
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub = expansion.Expand(m.SubPathExpr, fromSpec)
		}
		ro := m.ReadOnly
		for i := range o.Spec.Volumes {
			if v := &o.Spec.Volumes[i]; v.Name == m.Name {
				ro = ro || v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
			}
		}
		if sub != "" {
			from = filepath.Join(from, sub)
			if _, err := os.Stat(from); err != nil && !ro {
				os.MkdirAll(from, 0o777)
			}
			if real, err := filepath.EvalSymlinks(from); err == nil {
				from = real
			}
		}
		l.Mounts = append(l.Mounts, mount{from, m.MountPath, ro})
	}
	return l, nil
}

func (c *container) valueFrom(o *v1.Pod, ip string, s *v1.EnvVarSource) (string, bool, error) {
	key := func(optional *bool, v string, ok bool, err error, what, key string) (string, bool, error) {
		if err == nil && !ok {
			err = fmt.Errorf("couldn't find key %s in %s", key, what)
		}
		if err != nil && optional != nil && *optional {
			return "", false, nil
		}
		return v, err == nil, err
	}
	switch {
	case s.FieldRef != nil:
		switch s.FieldRef.FieldPath {
		case "status.podIP", "status.podIPs":
			return ip, true, nil
		case "status.hostIP", "status.hostIPs":
			return c.p.k.nodeIP[o.Spec.NodeName], true, nil
		case "spec.nodeName":
			return o.Spec.NodeName, true, nil
		case "spec.serviceAccountName":
			return o.Spec.ServiceAccountName, true, nil
		}
		v, err := fieldpath.ExtractFieldPathAsString(o, s.FieldRef.FieldPath)
		return v, err == nil, err
	case s.ConfigMapKeyRef != nil:
		r := s.ConfigMapKeyRef
		cm, err := c.p.k.configMaps.ConfigMaps(o.Namespace).Get(r.Name)
		v, ok := "", false
		if err == nil {
			v, ok = cm.Data[r.Key]
		}
		return key(r.Optional, v, ok, err, "ConfigMap "+r.Name, r.Key)
	case s.SecretKeyRef != nil:
		r := s.SecretKeyRef
		sec, err := c.p.k.secrets.Secrets(o.Namespace).Get(r.Name)
		var v []byte
		ok := false
		if err == nil {
			v, ok = sec.Data[r.Key]
		}
		return key(r.Optional, string(v), ok, err, "Secret "+r.Name, r.Key)
	case s.ResourceFieldRef != nil:
		v, err := resourceapi.ExtractContainerResourceValue(s.ResourceFieldRef, c.spec)
		return v, err == nil, err
	}
	return "", false, nil
}

func (c *container) process() (pid int, exited chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid, c.exited
}

func (c *container) kill() {
	if pid, _ := c.process(); pid > 0 {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// end stops the process: the preStop hook, SIGTERM, and SIGKILL at the deadline.
func (c *container) end(deadline time.Time) {
	pid, exited := c.process()
	if pid == 0 {
		return
	}
	if h := c.spec.Lifecycle; h != nil && h.PreStop != nil {
		done := make(chan struct{})
		go func() { c.hook(h.PreStop, time.Until(deadline)); close(done) }()
		select {
		case <-done:
		case <-exited:
			return
		case <-time.After(time.Until(deadline)):
		}
	}
	c.p.event(v1.EventTypeNormal, "Killing", "Stopping container %s", c.spec.Name)
	syscall.Kill(pid, syscall.SIGTERM)
	select {
	case <-exited:
	case <-time.After(time.Until(deadline)):
		syscall.Kill(pid, syscall.SIGKILL)
		<-exited
	}
}

func (c *container) hook(h *v1.LifecycleHandler, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), max(limit, time.Second))
	defer cancel()
	var err error
	switch {
	case h.Exec != nil:
		err = c.command(ctx, h.Exec.Command).Run()
	case h.HTTPGet != nil:
		err = c.httpGet(ctx, h.HTTPGet)
	case h.Sleep != nil:
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
		}
	}
	if err != nil {
		c.p.event(v1.EventTypeWarning, "FailedHook", "container %s: %v", c.spec.Name, err)
	}
}

// command runs a command inside the container's namespaces, as its user.
func (c *container) command(ctx context.Context, args []string) *exec.Cmd {
	c.mu.Lock()
	pid, env, l := c.pid, c.env, c.launch
	c.mu.Unlock()
	if pid == 0 {
		return exec.CommandContext(ctx, "false")
	}
	a := []string{"-t", fmt.Sprint(pid), "-m", "-u", "-i", "-n", "-p"}
	if l.UID != 0 || l.GID != 0 {
		a = append(a, "-S", fmt.Sprint(l.UID), "-G", fmt.Sprint(l.GID))
	}
	if l.Dir != "" {
		a = append(a, "--wdns="+l.Dir)
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(append(a, "--"), args...)...)
	cmd.Env = env
	cmd.WaitDelay = time.Second
	return cmd
}
