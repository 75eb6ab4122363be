package raftset

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
)

// Member is one replica of a set on one node. It is what Raft calls a server,
// and neither half is ever used again for another (PROTOCOL 1).
type Member struct {
	Node    quorate.NodeID
	Replica quorate.ReplicaID
}

// String prints the member as "7@node1/0f3c…": replica, node, incarnation.
func (m Member) String() string { return m.Replica.String() + "@" + m.Node.String() }

// ParseMember parses what String prints.
func ParseMember(s string) (Member, error) {
	number, node, ok := strings.Cut(s, "@")
	slash := strings.LastIndexByte(node, '/')
	if !ok || slash < 0 {
		return Member{}, fmt.Errorf("member %q: want replica@node/incarnation", s)
	}
	replica, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return Member{}, fmt.Errorf("member %q: %w", s, err)
	}
	incarnation, err := quorate.ParseIncarnation(node[slash+1:])
	if err != nil {
		return Member{}, fmt.Errorf("member %q: %w", s, err)
	}
	return Member{
		Node:    quorate.NodeID{Name: node[:slash], Incarnation: incarnation},
		Replica: quorate.ReplicaID(replica),
	}, nil
}

// serverID and address are the same string: the transport finds a member by its
// identity, and where its node listens is the metadata service's knowledge.
func (m Member) serverID() raft.ServerID     { return raft.ServerID(m.String()) }
func (m Member) address() raft.ServerAddress { return raft.ServerAddress(m.String()) }

// server is a Member with its right to vote, as the manifest records it.
type server struct {
	Member
	suffrage raft.ServerSuffrage
}

func toConfiguration(servers []server) raft.Configuration {
	c := raft.Configuration{Servers: make([]raft.Server, len(servers))}
	for i, s := range servers {
		c.Servers[i] = raft.Server{Suffrage: s.suffrage, ID: s.serverID(), Address: s.address()}
	}
	return c
}

func fromConfiguration(c raft.Configuration) ([]server, error) {
	servers := make([]server, len(c.Servers))
	for i, s := range c.Servers {
		m, err := ParseMember(string(s.ID))
		if err != nil {
			return nil, err
		}
		servers[i] = server{Member: m, suffrage: s.Suffrage}
	}
	return servers, nil
}

// voters counts the members that vote.
func voters(servers []server) int {
	n := 0
	for _, s := range servers {
		if s.suffrage == raft.Voter {
			n++
		}
	}
	return n
}

// find returns the member with a ReplicaID.
func find(servers []server, replica quorate.ReplicaID) (server, bool) {
	for _, s := range servers {
		if s.Replica == replica {
			return s, true
		}
	}
	return server{}, false
}
