package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// clusterSettings are those of the port between nodes and of membership.
func clusterSettings(c *Config) []setting {
	p, m := &c.Peer, &c.Cluster
	return []setting{
		{"peer.listen", "Where the nodes of a cluster talk to each other. Port 0 takes a free port. An address that is not loopback needs `peer.cert_file`, or `peer.allow_insecure`.",
			textValue{&p.Listen, "address", "`host:port`", checkAddress}},
		{"peer.advertise", "The address under which the other nodes reach `peer.listen`; empty for that address itself.",
			textValue{&p.Advertise, "address", "`host:port`, or empty", checkAdvertised}},
		{"peer.allow_insecure", "Talk to other nodes over an address that is not loopback without TLS: whoever reaches it can read and change everything.",
			boolValue{&p.AllowInsecure}},
		{"peer.cert_file", "This node's certificate (PEM) for the port between nodes: its subject alternative name is the node's name. With it, both sides of every connection must show one. Read again when the file changes.",
			textValue{&p.CertFile, "path", "a PEM file, or empty", anyText}},
		{"peer.key_file", "The key of `peer.cert_file`.",
			textValue{&p.KeyFile, "path", "a PEM file, or empty", anyText}},
		{"peer.ca_file", "The certificates of the authorities (PEM) that sign the nodes' certificates; use one that signs nothing else.",
			textValue{&p.CAFile, "path", "a PEM file, or empty", anyText}},
		{"cluster.join", "The `peer` addresses of other nodes, separated by commas, this node's own among them or not. Only the first start needs it; empty founds a cluster of one node, that others can join.",
			textValue{&m.Join, "addresses", "`host:port,host:port,…`, or empty", checkAddresses}},
		{"cluster.expect", "How many nodes, this one included, must see each other before they found a cluster together, each with the same `cluster.join`. 0 joins a cluster that is there. More than half of the nodes that `cluster.join` names.",
			countValue{&m.Expect, 0, 9}},
		{"cluster.zone", "The failure domain (rack, availability zone) of the node; the replicas of a set are spread over as many zones as there are.",
			textValue{&m.Zone, "name", "up to 63 letters, digits, `-`, `_` and `.`, or empty", checkZone}},
		{"cluster.roles", "What the node does: `meta` may hold a replica of the metadata, `data` holds samples, `gateway` takes writes and queries.",
			textValue{&m.Roles, "roles", "some of `meta`, `data`, `gateway`, separated by commas", checkRoles}},
		{"cluster.replace_after", "How long a node must have been silent before its replicas are made anew on other nodes.",
			durationValue{&m.ReplaceAfter, time.Second, 30 * day}},
		{"cluster.read_lease", "Let the leaders of this node confirm reads without asking the other replicas, for as long as a majority has promised them to elect nobody else. It relies on monotonic clocks: leave it off where a machine may be suspended, or a virtual one paused, without its clock going on. Other nodes need not have it set; turn it off on all of them before one goes back to a version without it.",
			boolValue{&m.ReadLease}},
	}
}

// Split returns the elements of a list separated by commas, without the spaces
// round them; none of an empty one.
func Split(list string) []string {
	var elements []string
	for element := range strings.SplitSeq(list, ",") {
		if element = strings.TrimSpace(element); element != "" {
			elements = append(elements, element)
		}
	}
	return elements
}

func anyText(string) error { return nil }

func checkAdvertised(text string) error {
	if text == "" {
		return nil
	}
	return checkAddress(text)
}

func checkAddresses(text string) error {
	for _, address := range Split(text) {
		if err := checkAddress(address); err != nil {
			return err
		}
	}
	return nil
}

func checkZone(text string) error {
	if text == "" {
		return nil
	}
	return checkNodeName(text)
}

func checkRoles(text string) error {
	roles := Split(text)
	if len(roles) == 0 {
		return errors.New("names no role")
	}
	for _, role := range roles {
		if !slices.Contains([]string{"meta", "data", "gateway"}, role) {
			return fmt.Errorf("%q is none of meta, data and gateway", role)
		}
	}
	return nil
}

// checkCluster judges what the settings of the cluster say together.
func (l *loader) checkCluster() {
	p, m := l.config.Peer, l.config.Cluster
	for _, other := range []string{"http.listen", "admin.listen"} {
		if address := l.find(other).value.String(); samePort(p.Listen, address) {
			l.failTogether("peer.listen", other, fmt.Errorf("%q is %s, too", p.Listen, other))
		}
	}
	if m.Expect > 0 && len(Split(m.Join)) == 0 {
		l.failTogether("cluster.expect", "cluster.join", errors.New("needs cluster.join, which says where the other nodes are"))
	}
	files := []string{p.CertFile, p.KeyFile, p.CAFile}
	if slices.Contains(files, "") && (p.CertFile != "" || p.KeyFile != "" || p.CAFile != "") {
		l.failTogether("peer.cert_file", "peer.ca_file", errors.New("peer.cert_file, peer.key_file and peer.ca_file belong together: all or none"))
	}
	if !isLoopback(p.Listen) && p.CertFile == "" && !p.AllowInsecure {
		l.failTogether("peer.listen", "peer.allow_insecure", fmt.Errorf(
			"%q can be reached by others, and no peer.cert_file keeps them out; give certificates, or set peer.allow_insecure: true", p.Listen))
	}
}
