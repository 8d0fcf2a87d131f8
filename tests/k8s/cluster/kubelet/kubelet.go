// Package kubelet is a small node agent for tests: it registers nodes that are
// all this one machine, and runs the pods bound to them as local processes in
// namespaces of their own. There are no images to pull: an image name is looked
// up in a file that says which program stands for it.
package kubelet

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	coordv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
)

type kubelet struct {
	cs     kubernetes.Interface
	dir    string // run-time data: pods/, images.json
	data   string // volumes/
	nodes  []string
	nodeIP map[string]string
	port   int
	net    *network
	api    string // host:port of the API server, for the "kubernetes" service
	rec    record.EventRecorder

	pods       corelisters.PodLister
	configMaps corelisters.ConfigMapLister
	secrets    corelisters.SecretLister
	claims     corelisters.PersistentVolumeClaimLister
	volumes    corelisters.PersistentVolumeLister
	services   corelisters.ServiceLister
	slices     discoverylisters.EndpointSliceLister
	classes    storagelisters.StorageClassLister

	mu      sync.Mutex
	workers map[types.UID]*pod
	closing bool
}

// Main runs the node agent until SIGTERM or SIGINT.
func Main() int {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `file`")
	dir := flag.String("dir", "run/kubelet", "`directory` for logs, rendered volumes and images.json")
	data := flag.String("data", "run/data", "`directory` under which volumes/ is kept")
	count := flag.Int("nodes", 2, "how many nodes to register")
	port := flag.Int("port", 10250, "port of the kubelet API")
	clientCA := flag.String("client-ca", "", "certificate `file` that callers of the kubelet API must show")
	podNet := flag.String("pod-net", "10.244", "first two octets of the pod addresses")
	svcCIDR := flag.String("service-cidr", "10.96.0.0/24", "the API server's service range")
	bridge := flag.String("bridge", "k8slocal0", "name of the bridge that joins the pods")
	provisioner := flag.String("provisioner", "disk.local", "name of the volume provisioner")
	flag.Parse()
	log.SetFlags(log.Ltime | log.Lmicroseconds)

	cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Print(err)
		return 1
	}
	cfg.QPS, cfg.Burst = 200, 400
	k := &kubelet{cs: kubernetes.NewForConfigOrDie(cfg), port: *port, workers: map[types.UID]*pod{}, nodeIP: map[string]string{}}
	k.dir, _ = filepath.Abs(*dir)
	k.data, _ = filepath.Abs(*data)
	for _, d := range []string{k.dir, filepath.Join(k.data, "volumes")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			log.Print(err)
			return 1
		}
	}
	os.RemoveAll(filepath.Join(k.dir, "pods"))
	for i := 0; i < *count; i++ {
		n := fmt.Sprintf("node-%d", i)
		k.nodes = append(k.nodes, n)
		k.nodeIP[n] = fmt.Sprintf("127.0.1.%d", 10+i)
	}
	k.api = hostPort(cfg.Host)
	k.net, err = newNetwork(*podNet, *svcCIDR, *bridge)
	if err != nil {
		log.Print("network: ", err)
		return 1
	}
	defer k.net.close()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		if err = k.registerNodes(ctx); err == nil {
			break
		}
		log.Print("register nodes: ", err)
		time.Sleep(500 * time.Millisecond)
	}
	go k.heartbeat(ctx)

	f := informers.NewSharedInformerFactory(k.cs, 0)
	core := f.Core().V1()
	k.pods, k.configMaps, k.secrets = core.Pods().Lister(), core.ConfigMaps().Lister(), core.Secrets().Lister()
	k.claims, k.volumes, k.services = core.PersistentVolumeClaims().Lister(), core.PersistentVolumes().Lister(), core.Services().Lister()
	k.slices, k.classes = f.Discovery().V1().EndpointSlices().Lister(), f.Storage().V1().StorageClasses().Lister()
	podInformer := core.Pods().Informer()
	b := record.NewBroadcaster()
	b.StartRecordingToSink(eventSink(k.cs))
	k.rec = b.NewRecorder(scheme(), v1.EventSource{Component: "kubelet"})

	if err := k.serve(*clientCA); err != nil {
		log.Print("kubelet API: ", err)
		return 1
	}
	f.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done())
	podInformer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { k.changed(o.(*v1.Pod)) },
		UpdateFunc: func(_, o any) { k.changed(o.(*v1.Pod)) },
		DeleteFunc: func(o any) {
			if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = d.Obj
			}
			if p, ok := o.(*v1.Pod); ok {
				k.gone(p)
			}
		},
	})
	go k.provision(ctx, *provisioner)
	go k.hostsAndServices(ctx)
	log.Printf("ready: %d nodes", *count)

	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, syscall.SIGINT)
	<-sig
	log.Print("stopping")
	k.mu.Lock()
	k.closing = true
	all := make([]*pod, 0, len(k.workers))
	for _, p := range k.workers {
		all = append(all, p)
	}
	k.mu.Unlock()
	for _, p := range all {
		p.stop(5 * time.Second)
	}
	for _, p := range all {
		<-p.done
	}
	return 0
}

func (k *kubelet) isClosing() bool { k.mu.Lock(); defer k.mu.Unlock(); return k.closing }

func (k *kubelet) changed(o *v1.Pod) {
	if _, mine := k.nodeIP[o.Spec.NodeName]; !mine {
		return
	}
	k.mu.Lock()
	p := k.workers[o.UID]
	if p == nil && !k.closing && o.DeletionTimestamp == nil && o.Status.Phase != v1.PodFailed && o.Status.Phase != v1.PodSucceeded {
		p = newPod(k, o)
		k.workers[o.UID] = p
		go p.run()
	}
	k.mu.Unlock()
	if p == nil {
		if o.DeletionTimestamp != nil {
			go k.deleteObject(o)
		}
		return
	}
	p.update(o)
}

func (k *kubelet) gone(o *v1.Pod) {
	k.mu.Lock()
	p := k.workers[o.UID]
	k.mu.Unlock()
	if p != nil {
		p.stop(0)
	}
}

func (k *kubelet) deleteObject(o *v1.Pod) {
	zero := int64(0)
	for i := 0; i < 20; i++ {
		err := k.cs.CoreV1().Pods(o.Namespace).Delete(context.Background(), o.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: metav1.NewUIDPreconditions(string(o.UID))})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func (k *kubelet) worker(namespace, name string) *pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found *pod
	for _, p := range k.workers {
		if o := p.object(); o.Namespace == namespace && o.Name == name {
			found = p
			if o.DeletionTimestamp == nil {
				break
			}
		}
	}
	return found
}

func (k *kubelet) nodeStatus(name string) v1.NodeStatus {
	now := metav1.Now()
	condition := func(t v1.NodeConditionType, s v1.ConditionStatus, reason string) v1.NodeCondition {
		return v1.NodeCondition{Type: t, Status: s, Reason: reason, Message: reason, LastHeartbeatTime: now, LastTransitionTime: now}
	}
	room := v1.ResourceList{
		v1.ResourceCPU: resource.MustParse("16"), v1.ResourceMemory: resource.MustParse("64Gi"),
		v1.ResourcePods: resource.MustParse("110"), v1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
	}
	return v1.NodeStatus{
		Capacity: room, Allocatable: room, Phase: v1.NodeRunning,
		Conditions: []v1.NodeCondition{
			condition(v1.NodeReady, v1.ConditionTrue, "KubeletReady"),
			condition(v1.NodeMemoryPressure, v1.ConditionFalse, "KubeletHasSufficientMemory"),
			condition(v1.NodeDiskPressure, v1.ConditionFalse, "KubeletHasNoDiskPressure"),
			condition(v1.NodePIDPressure, v1.ConditionFalse, "KubeletHasSufficientPID"),
		},
		Addresses:       []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: k.nodeIP[name]}, {Type: v1.NodeHostName, Address: name}},
		DaemonEndpoints: v1.NodeDaemonEndpoints{KubeletEndpoint: v1.DaemonEndpoint{Port: int32(k.port)}},
		NodeInfo: v1.NodeSystemInfo{OperatingSystem: "linux", Architecture: runtime.GOARCH, KubeletVersion: "v1.34.2-k8slocal",
			ContainerRuntimeVersion: "process://1", OSImage: "local processes", KernelVersion: kernel()},
	}
}

func (k *kubelet) registerNodes(ctx context.Context) error {
	for _, n := range k.nodes {
		node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: n, Labels: map[string]string{
			v1.LabelHostname: n, v1.LabelOSStable: "linux", v1.LabelArchStable: runtime.GOARCH}}}
		if _, err := k.cs.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		if err := k.postNode(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (k *kubelet) postNode(ctx context.Context, n string) error {
	node, err := k.cs.CoreV1().Nodes().Get(ctx, n, metav1.GetOptions{})
	if err != nil {
		return err
	}
	old := node.Status.Conditions
	node.Status = k.nodeStatus(n)
	for i := range node.Status.Conditions {
		for _, o := range old {
			if c := &node.Status.Conditions[i]; o.Type == c.Type && o.Status == c.Status {
				c.LastTransitionTime = o.LastTransitionTime
			}
		}
	}
	_, err = k.cs.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

func (k *kubelet) heartbeat(ctx context.Context) {
	for i := 0; ; i++ {
		for _, n := range k.nodes {
			k.renew(ctx, n)
			if i%6 == 5 {
				if err := k.postNode(ctx, n); err != nil {
					log.Print("node status: ", err)
				}
			}
		}
		wait := 10 * time.Second
		if i == 0 {
			wait = time.Second // the lease namespace may not have been there
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (k *kubelet) renew(ctx context.Context, n string) {
	leases := k.cs.CoordinationV1().Leases(v1.NamespaceNodeLease)
	now, seconds := metav1.NowMicro(), int32(40)
	l, err := leases.Get(ctx, n, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: n}, Spec: coordv1.LeaseSpec{HolderIdentity: &n, LeaseDurationSeconds: &seconds, RenewTime: &now}}, metav1.CreateOptions{})
	} else if err == nil {
		l.Spec.RenewTime = &now
		_, err = leases.Update(ctx, l, metav1.UpdateOptions{})
	}
	if err != nil {
		log.Print("lease: ", err)
	}
}

func (k *kubelet) allPods() []*v1.Pod {
	l, _ := k.pods.List(labels.Everything())
	return l
}
