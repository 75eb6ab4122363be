package raftset

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

const (
	manifestMagic   = "QRMF"
	manifestVersion = 1

	// serverLeast is the least number of bytes a server takes in a manifest:
	// suffrage, replica, name length, incarnation.
	serverLeast = 3 + 16
)

// manifest is the snapshot record of a replica (PROTOCOL 21): where its log
// begins, who its members were there, and what the state machine had on disk.
type manifest struct {
	set     quorate.ReplicaSetID
	replica quorate.ReplicaID
	// genesis is the digest of the genesis that formed the replica. It makes
	// Form idempotent for the replica's whole life.
	genesis [sha256.Size]byte
	index   uint64
	term    uint64
	// configurationIndex is the index of the entry that made the configuration
	// of servers; the genesis counts as one.
	configurationIndex uint64
	servers            []server
	payload            []byte
}

// encode returns the manifest as the record that docs/format/raftset.md describes.
func (m *manifest) encode() []byte {
	b := beginRecord(manifestMagic, manifestVersion)
	b = binary.AppendUvarint(b, uint64(m.set))
	b = binary.AppendUvarint(b, uint64(m.replica))
	b = append(b, m.genesis[:]...)
	b = binary.AppendUvarint(b, m.index)
	b = binary.AppendUvarint(b, m.term)
	b = binary.AppendUvarint(b, m.configurationIndex)
	b = appendServers(b, m.servers)
	b = cursor.AppendBytes(b, m.payload)
	return sealRecord(b)
}

func appendServers(b []byte, servers []server) []byte {
	b = binary.AppendUvarint(b, uint64(len(servers)))
	for _, s := range servers {
		b = binary.AppendUvarint(b, uint64(s.suffrage))
		b = binary.AppendUvarint(b, uint64(s.Replica))
		b = cursor.AppendBytes(b, s.Node.Name)
		b = append(b, s.Node.Incarnation[:]...)
	}
	return b
}

// decodeManifest decodes what encode wrote. Errors wrap ErrDamaged or are about
// a format version.
func decodeManifest(data []byte) (*manifest, error) {
	c, err := openRecord(data, manifestMagic, manifestVersion)
	if err != nil {
		return nil, err
	}
	m := &manifest{
		set:     quorate.ReplicaSetID(c.Uvarint()),
		replica: quorate.ReplicaID(c.Uvarint()),
	}
	copy(m.genesis[:], c.Take(sha256.Size))
	m.index = c.Uvarint()
	m.term = c.Uvarint()
	m.configurationIndex = c.Uvarint()
	m.servers = readServers(c)
	m.payload = c.Bytes()
	if err := c.finish("manifest"); err != nil {
		return nil, err
	}
	return m, m.validate()
}

// readServers reads what appendServers wrote.
func readServers(c *recordReader) []server {
	servers := make([]server, c.Count(serverLeast))
	for i := range servers {
		s := &servers[i]
		s.suffrage = raft.ServerSuffrage(min(c.Uvarint(), math.MaxInt32))
		s.Replica = quorate.ReplicaID(c.Uvarint())
		s.Node.Name = string(c.Bytes())
		copy(s.Node.Incarnation[:], c.Take(uint64(len(s.Node.Incarnation))))
	}
	return servers
}

// validate checks what no checksum can: that the manifest makes sense.
func (m *manifest) validate() error {
	if m.index == 0 || m.term == 0 || m.configurationIndex > m.index {
		return damaged("manifest at index %d, term %d has its configuration at index %d", m.index, m.term, m.configurationIndex)
	}
	for _, s := range m.servers {
		if s.suffrage != raft.Voter && s.suffrage != raft.Nonvoter {
			return damaged("manifest gives member %s the suffrage %d", s.Member, s.suffrage)
		}
	}
	return nil
}
