package kubelet

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// network hands out pod addresses. Each pod has a namespace joined by a veth
// pair to one bridge, so that pods may all listen on 0.0.0.0:PORT.
type network struct {
	prefix, services, bridge string
	mu                       sync.Mutex
	next                     int
	used                     map[int]bool
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func newNetwork(prefix, services, bridge string) (*network, error) {
	n := &network{prefix: prefix, services: services, bridge: bridge, used: map[int]bool{}}
	n.close() // what an earlier agent left
	if err := ip("route", "add", "local", services, "dev", "lo"); err != nil {
		return nil, err
	}
	for _, c := range [][]string{{"link", "add", bridge, "type", "bridge"}, {"addr", "add", n.gateway() + "/16", "dev", bridge}, {"link", "set", bridge, "up"}} {
		if err := ip(c...); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *network) gateway() string { return n.prefix + ".0.1" }

// veth names an end of a pod's link, in no more than 15 characters.
func (n *network) veth(i int, end string) string {
	_, octet, _ := strings.Cut(n.prefix, ".")
	return fmt.Sprintf("v%s-%d%s", octet, i, end)
}

func (n *network) close() {
	ip("route", "del", "local", n.services, "dev", "lo")
	entries, _ := os.ReadDir("/run/netns")
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), n.bridge+"-") {
			ip("netns", "del", e.Name())
		}
	}
	ip("link", "del", n.bridge)
}

// add returns a new pod's address and the file of its network namespace ("" for
// the host's).
func (n *network) add(hostNetwork bool, nodeIP string) (addr, ns string, err error) {
	if hostNetwork {
		return nodeIP, "", nil
	}
	n.mu.Lock()
	i := n.next
	for {
		i = i%60000 + 1
		if j := i + 9; !n.used[j] && j%256 != 0 && j%256 != 255 {
			break
		}
	}
	n.next = i
	i += 9
	n.used[i] = true
	n.mu.Unlock()
	addr = fmt.Sprintf("%s.%d.%d", n.prefix, i/256, i%256)
	name, host, inside := fmt.Sprintf("%s-%d", n.bridge, i), n.veth(i, "h"), n.veth(i, "p")
	ip("link", "del", host)
	ip("netns", "del", name)
	for _, c := range [][]string{
		{"netns", "add", name},
		{"link", "add", host, "type", "veth", "peer", "name", inside},
		{"link", "set", inside, "netns", name},
		{"-n", name, "link", "set", inside, "name", "eth0"},
		{"-n", name, "addr", "add", addr + "/16", "dev", "eth0"},
		{"-n", name, "link", "set", "lo", "up"},
		{"-n", name, "link", "set", "eth0", "up"},
		{"-n", name, "route", "add", "default", "via", n.gateway()},
		{"link", "set", host, "master", n.bridge, "up"},
	} {
		if err = ip(c...); err != nil {
			n.remove(addr)
			return "", "", err
		}
	}
	return addr, "/run/netns/" + name, nil
}

func (n *network) remove(addr string) {
	if !strings.HasPrefix(addr, n.prefix+".") {
		return
	}
	p := strings.Split(addr, ".")
	hi, _ := strconv.Atoi(p[2])
	lo, _ := strconv.Atoi(p[3])
	i := hi*256 + lo
	ip("link", "del", n.veth(i, "h"))
	ip("netns", "del", fmt.Sprintf("%s-%d", n.bridge, i))
	n.mu.Lock()
	delete(n.used, i)
	n.mu.Unlock()
}

// hostsAndServices keeps each pod's /etc/hosts, which stands in for the cluster
// DNS, and a TCP listener on every cluster IP, which stands in for kube-proxy.
func (k *kubelet) hostsAndServices(ctx context.Context) {
	proxies := map[string]*proxy{}
	for ; ctx.Err() == nil; time.Sleep(300 * time.Millisecond) {
		k.writeHosts()
		seen := map[string]bool{}
		services, _ := k.services.List(labels.Everything())
		for _, s := range services {
			if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == v1.ClusterIPNone {
				continue
			}
			for _, port := range s.Spec.Ports {
				if port.Protocol != v1.ProtocolTCP {
					continue
				}
				addr := net.JoinHostPort(s.Spec.ClusterIP, strconv.Itoa(int(port.Port)))
				seen[addr] = true
				p := proxies[addr]
				if p == nil {
					l, err := net.Listen("tcp", addr)
					if err != nil {
						log.Print("service ", s.Name, ": ", err)
						continue
					}
					p = &proxy{l: l}
					proxies[addr] = p
					go p.run()
				}
				backs := k.backends(s, port.Name)
				if s.Namespace == v1.NamespaceDefault && s.Name == "kubernetes" {
					backs = []string{k.api}
				}
				p.set(backs)
			}
		}
		for addr, p := range proxies {
			if !seen[addr] {
				p.l.Close()
				delete(proxies, addr)
			}
		}
	}
}

func (k *kubelet) serviceSlices(s *v1.Service) []*discovery.EndpointSlice {
	l, _ := k.slices.EndpointSlices(s.Namespace).List(labels.SelectorFromSet(labels.Set{discovery.LabelServiceName: s.Name}))
	return l
}

func (k *kubelet) backends(s *v1.Service, port string) (out []string) {
	for _, sl := range k.serviceSlices(s) {
		for _, p := range sl.Ports {
			if p.Port == nil || p.Name != nil && *p.Name != port {
				continue
			}
			for _, e := range sl.Endpoints {
				if e.Conditions.Ready == nil || *e.Conditions.Ready {
					for _, a := range e.Addresses {
						out = append(out, net.JoinHostPort(a, strconv.Itoa(int(*p.Port))))
					}
				}
			}
		}
	}
	sort.Strings(out)
	return out
}

type proxy struct {
	l    net.Listener
	mu   sync.Mutex
	back []string
	turn atomic.Uint64
}

func (p *proxy) set(b []string) { p.mu.Lock(); p.back = b; p.mu.Unlock() }

func (p *proxy) run() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			p.mu.Lock()
			b := p.back
			p.mu.Unlock()
			for range b {
				up, err := net.DialTimeout("tcp", b[p.turn.Add(1)%uint64(len(b))], 2*time.Second)
				if err == nil {
					pipe(c, up)
					return
				}
			}
		}()
	}
}

func pipe(a io.ReadWriteCloser, b io.ReadWriteCloser) {
	done := make(chan struct{}, 2)
	move := func(to, from io.ReadWriteCloser) {
		io.Copy(to, from)
		if w, ok := to.(interface{ CloseWrite() error }); ok {
			w.CloseWrite()
		} else {
			to.Close()
		}
		done <- struct{}{}
	}
	go move(a, b)
	go move(b, a)
	<-done
	<-done
	a.Close()
	b.Close()
}

func (k *kubelet) writeHosts() {
	var shared []string
	line := func(ip string, names ...string) { shared = append(shared, ip+"\t"+strings.Join(names, " ")) }
	line(k.net.gateway(), "host.k8slocal")
	services, _ := k.services.List(labels.Everything())
	type name struct{ ns, ip, short string }
	var names []name
	for _, s := range services {
		ips := map[string]bool{}
		if s.Spec.ClusterIP != v1.ClusterIPNone && s.Spec.ClusterIP != "" {
			ips[s.Spec.ClusterIP] = true
		} else {
			for _, sl := range k.serviceSlices(s) {
				for _, e := range sl.Endpoints {
					up := e.Conditions.Ready == nil || *e.Conditions.Ready
					for _, a := range e.Addresses {
						if up {
							ips[a] = true
						}
						if e.Hostname != nil && (up || s.Spec.PublishNotReadyAddresses) {
							names = append(names, name{s.Namespace, a, *e.Hostname + "." + s.Name})
						}
					}
				}
			}
		}
		for a := range ips {
			names = append(names, name{s.Namespace, a, s.Name})
		}
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := names[i], names[j]
		return a.ns+" "+a.short+" "+a.ip < b.ns+" "+b.short+" "+b.ip
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.workers {
		o := p.object()
		out := []string{"127.0.0.1\tlocalhost", "::1\tlocalhost"}
		addr := p.address()
		if addr == "" {
			continue
		}
		host := hostname(o)
		if o.Spec.Subdomain != "" {
			out = append(out, fmt.Sprintf("%s\t%s.%s.%s.svc.cluster.local %s", addr, host, o.Spec.Subdomain, o.Namespace, host))
		} else {
			out = append(out, addr+"\t"+host)
		}
		for _, a := range o.Spec.HostAliases {
			out = append(out, a.IP+"\t"+strings.Join(a.Hostnames, " "))
		}
		out = append(out, shared...)
		for _, n := range names {
			full := n.short + "." + n.ns
			l := fmt.Sprintf("%s\t%s.svc.cluster.local %s.svc %s", n.ip, full, full, full)
			if n.ns == o.Namespace {
				l += " " + n.short
			}
			out = append(out, l)
		}
		p.writeHosts(strings.Join(out, "\n") + "\n")
	}
}
