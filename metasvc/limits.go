package metasvc

import (
	"slices"
	"time"

	"github.com/quorate/quorate"
)

// The limits that Apply enforces. They are part of the commands' version:
// replicas of different limits would make different states of one log.
const (
	// MaxPolicies is how many policies there may be (PROTOCOL 13: few).
	MaxPolicies = 32
	// MaxShards is how many ReplicaSets a bucket may have.
	MaxShards = 1024
	// MaxReplicas is how many members a ReplicaSet may have.
	MaxReplicas = 9
	// MinSpan and MaxSpan bound the length of a bucket.
	MinSpan = time.Minute
	MaxSpan = 366 * 24 * time.Hour
	// MaxRetention bounds a policy's retention, and so keeps the arithmetic on
	// timestamps far from overflow.
	MaxRetention = 100 * 366 * 24 * time.Hour
	// MaxDeletions is how many deletions on sealed sets there may be at once.
	MaxDeletions = 10_000
	// MaxDeletionSets is how many sets these may name together, a set counted
	// for each deletion that names it: each has a place in every node's map.
	MaxDeletionSets = 1 << 17
	// MaxNameBytes is the longest name of a node, a policy or a zone.
	MaxNameBytes = 64

	maxAddressBytes = 255
	maxZones        = 64
	maxPlacements   = 64
	// maxGeneration is what the encoding of a generation holds.
	maxGeneration = 1 << 30
	// maxIntentPayload holds a wire.Seal with a horizon for each of 100,000
	// tenants and all deletions there may be.
	maxIntentPayload = 4 << 20
	// maxIntentBytes bounds the payloads of all intents together, which are part
	// of the state and so of every snapshot.
	maxIntentBytes = 16 << 20
	// maxDeletionBytes bounds the encoded deletions together.
	maxDeletionBytes = 2 << 20
)

// Validate checks the fields of a policy. The error is a *Refusal that names
// the field and its rule.
func (p PolicySpec) Validate() error {
	if r := p.check(); r != nil {
		return r
	}
	return nil
}

func (p PolicySpec) check() *Refusal {
	if r := checkName("policy name", p.Name); r != nil {
		return r
	}
	switch {
	case p.Span < MinSpan || p.Span > MaxSpan:
		return refuse(ReasonInvalid, "policy %q: span %v is not between %v and %v", p.Name, p.Span, MinSpan, MaxSpan)
	case p.Shards < 1 || p.Shards > MaxShards:
		return refuse(ReasonInvalid, "policy %q: %d shards are not between 1 and %d", p.Name, p.Shards, MaxShards)
	case p.Replicas < 1 || p.Replicas > MaxReplicas:
		return refuse(ReasonInvalid, "policy %q: %d replicas are not between 1 and %d", p.Name, p.Replicas, MaxReplicas)
	case p.Retention < time.Millisecond || p.Retention > MaxRetention:
		return refuse(ReasonInvalid, "policy %q: retention %v is not between 1ms and %v", p.Name, p.Retention, MaxRetention)
	case p.LateWindow < 0 || p.LateWindow > p.Retention:
		return refuse(ReasonInvalid, "policy %q: late window %v is not between 0 and the retention of %v", p.Name, p.LateWindow, p.Retention)
	case p.FutureBound < 0 || p.FutureBound > MaxSpan:
		return refuse(ReasonInvalid, "policy %q: future bound %v is not between 0 and %v", p.Name, p.FutureBound, MaxSpan)
	case len(p.Zones) > maxZones:
		return refuse(ReasonLimit, "policy %q: %d zones are over the limit of %d", p.Name, len(p.Zones), maxZones)
	}
	for _, d := range []time.Duration{p.Span, p.LateWindow, p.Retention, p.FutureBound} {
		if d%time.Millisecond != 0 {
			return refuse(ReasonInvalid, "policy %q: %v is not a whole number of milliseconds", p.Name, d)
		}
	}
	for i, z := range p.Zones {
		if r := checkZone(z); r != nil {
			return r
		}
		if i > 0 && p.Zones[i-1] >= z {
			return refuse(ReasonInvalid, "policy %q: zones are not sorted and distinct at %q", p.Name, z)
		}
	}
	return nil
}

// Validate checks the fields of a node. The error is a *Refusal that names
// the field and its rule.
func (n NodeSpec) Validate() error {
	if r := n.check(); r != nil {
		return r
	}
	return nil
}

func (n NodeSpec) check() *Refusal {
	if r := checkName("node name", n.ID.Name); r != nil {
		return r
	}
	if r := checkZone(n.Zone); r != nil {
		return r
	}
	switch {
	case n.ID.Incarnation == quorate.Incarnation{}:
		return refuse(ReasonInvalid, "node %q has no incarnation", n.ID.Name)
	case n.Roles == 0 || n.Roles&^AllRoles != 0:
		return refuse(ReasonInvalid, "node %q: roles %#x are not a set of meta, data and gateway", n.ID.Name, uint8(n.Roles))
	case len(n.Address) > maxAddressBytes:
		return refuse(ReasonLimit, "node %q: address of %d bytes is over the limit of %d", n.ID.Name, len(n.Address), maxAddressBytes)
	}
	return nil
}

// checkName checks a name that people give: 1 to MaxNameBytes of letters,
// digits, "_", "-" and ".".
func checkName(what, name string) *Refusal {
	if name == "" || len(name) > MaxNameBytes || !isToken(name) {
		return refuse(ReasonInvalid, "%s %q is not 1 to %d letters, digits, '_', '-' and '.'", what, name, MaxNameBytes)
	}
	return nil
}

func checkZone(zone string) *Refusal {
	if len(zone) > MaxNameBytes || !isToken(zone) {
		return refuse(ReasonInvalid, "zone %q is not up to %d letters, digits, '_', '-' and '.'", zone, MaxNameBytes)
	}
	return nil
}

func isToken(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
			return false
		}
		return true
	})
}
