package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// hosts are network namespaces on one bridge, each with an address of its own,
// which the test reaches too. They are made of iproute2 alone and need root.
type hosts struct {
	prefix string
	count  int
}

// newHosts makes namespaces, which go when the test ends.
func newHosts(t *testing.T, count int) *hosts {
	t.Helper()
	h := &hosts{prefix: fmt.Sprintf("q%d", os.Getpid()%100000), count: count}
	hub := h.prefix + "-hub"
	h.netns(t, hub)
	ip(t, "-n", hub, "link", "add", "br0", "type", "bridge")
	ip(t, "-n", hub, "link", "set", "br0", "up")
	for i := 1; i <= count; i++ {
		h.netns(t, h.name(i))
		ip(t, "link", "add", "veth0", "netns", h.name(i), "type", "veth", "peer", "name", fmt.Sprintf("p%d", i), "netns", hub)
		ip(t, "-n", hub, "link", "set", fmt.Sprintf("p%d", i), "master", "br0", "up")
		ip(t, "-n", h.name(i), "addr", "add", h.address(i)+"/24", "dev", "veth0")
		ip(t, "-n", h.name(i), "link", "set", "veth0", "up")
		ip(t, "-n", h.name(i), "link", "set", "lo", "up")
	}
	own := h.prefix + "v"
	ip(t, "link", "add", own, "type", "veth", "peer", "name", "p0", "netns", hub)
	t.Cleanup(func() { ipQuietly(t, "link", "del", own) })
	ip(t, "-n", hub, "link", "set", "p0", "master", "br0", "up")
	ip(t, "addr", "add", h.address(0)+"/24", "dev", own)
	ip(t, "link", "set", own, "up")
	return h
}

func (h *hosts) netns(t *testing.T, name string) {
	t.Helper()
	ip(t, "netns", "add", name)
	t.Cleanup(func() { ipQuietly(t, "netns", "del", name) })
}

func (h *hosts) name(i int) string { return fmt.Sprintf("%s-%d", h.prefix, i) }

// address is that of a host, from 1; 0 is the test itself.
func (h *hosts) address(i int) string { return fmt.Sprintf("10.177.%d.%d", os.Getpid()%250, i+1) }

// cut drops what host i sends to host j.
func (h *hosts) cut(t *testing.T, i, j int) {
	t.Helper()
	ip(t, "-n", h.name(i), "route", "replace", "blackhole", h.address(j)+"/32")
}

// heal lets all hosts reach each other again.
func (h *hosts) heal(t *testing.T) {
	t.Helper()
	for i := 1; i <= h.count; i++ {
		for j := 1; j <= h.count; j++ {
			if i != j {
				ipQuietly(t, "-n", h.name(i), "route", "del", "blackhole", h.address(j)+"/32")
			}
		}
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s(these tests make network namespaces: they need root and iproute2)", args, err, out)
	}
}

// ipQuietly is ip for what may be gone already, also when the test has ended.
func ipQuietly(t *testing.T, args ...string) {
	t.Helper()
	_ = exec.Command("ip", args...).Run()
}
