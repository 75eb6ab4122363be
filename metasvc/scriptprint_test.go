package metasvc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

func printResult(r any) string {
	switch r := r.(type) {
	case *Refusal:
		return fmt.Sprintf("refused (%s): %s", r.Reason, r.Rule)
	default:
		name := strings.TrimPrefix(fmt.Sprintf("%T", r), "metasvc.")
		return strings.TrimSuffix(name, "Result") + fmt.Sprintf("%+v", r)
	}
}

func dump(m *StateMachine) string {
	s := m.snapshot()
	var out strings.Builder
	for _, c := range s.changesSince(0) {
		fmt.Fprintln(&out, printChange(c))
	}
	return out.String()
}

func printBatch(b Batch) string {
	var out strings.Builder
	fmt.Fprintf(&out, "to %d", b.To)
	if b.Whole {
		out.WriteString(", whole")
	}
	out.WriteString("\n")
	for _, c := range b.Changes {
		fmt.Fprintln(&out, printChange(c))
	}
	return out.String()
}

func printChange(c Change) string {
	at := fmt.Sprintf("@%d %s", c.Index, c.Kind)
	if c.Removed {
		if c.Name == "" {
			return fmt.Sprintf("%s %d removed", at, c.ID)
		}
		return fmt.Sprintf("%s %d removed, was %q", at, c.ID, c.Name)
	}
	switch r := c.Record.(type) {
	case *Cluster:
		line := fmt.Sprintf("%s %.4s… meta %s", at, r.ID, printMembers(r.Meta))
		if r.MetaJoining != nil {
			line += " joining " + printMembers([]Member{*r.MetaJoining})
		}
		return line
	case *Node:
		line := fmt.Sprintf("%s %d %s roles=%s zone=%s address=%s", at, r.Number, printNode(r.ID), r.Roles, r.Zone, r.Address)
		if r.State != NodeActive {
			line += " " + r.State.String()
		}
		return line
	case *Tenant:
		line := fmt.Sprintf("%s %d %q placements=%v", at, r.ID, r.Name, r.Placements)
		if r.Retention != 0 {
			line += fmt.Sprintf(" retention=%v", r.Retention)
		}
		return line
	case *Policy:
		line := fmt.Sprintf("%s %d %q span=%v shards=%d replicas=%d late=%v retention=%v future=%v zones=%v",
			at, r.ID, r.Name, r.Span, r.Shards, r.Replicas, r.LateWindow, r.Retention, r.FutureBound, r.Zones)
		if r.Horizon != NoHorizon {
			line += fmt.Sprintf(" horizon=%dh", r.Horizon/hour)
		}
		return line
	case *BucketRecord:
		line := fmt.Sprintf("%s %d policy=%d [%s,%s)h %s hash=%d sets=%v", at, r.ID, r.Policy, printHours(r.Range.Start), printHours(r.Range.End), r.State, r.HashVersion, r.SetIDs)
		if slices.ContainsFunc(r.OverlayIDs, func(id quorate.ReplicaSetID) bool { return id != 0 }) {
			line += fmt.Sprintf(" overlays=%v", r.OverlayIDs)
		}
		if r.Planned != 0 {
			line += fmt.Sprintf(" planned=%dh", r.Planned/hour)
		}
		if r.OnDemand {
			line += " on-demand"
		}
		if r.Pending {
			line += " pending"
		}
		if r.Cut {
			line += " cut"
		}
		return line
	case *ReplicaSet:
		return at + printSet(r)
	case *DeletionRecord:
		d := r.decode().Deletion
		line := fmt.Sprintf("%s %d tenant=%d %v [%d,%d)h sets=%v", at, r.ID, d.Tenant, d.Matchers, d.MinTime/hour, (d.MaxTime+1)/hour, r.Sets)
		if r.Pending {
			line += " pending"
		}
		return line
	}
	return fmt.Sprintf("%s: unknown record %T", at, c.Record)
}

func printNode(id quorate.NodeID) string { return fmt.Sprintf("%s/%d", id.Name, id.Incarnation[0]) }

// printHours prints a time in hours, and in milliseconds what is over.
func printHours(ms int64) string {
	if over := ms % hour; over != 0 {
		return fmt.Sprintf("%d+%dms", ms/hour, over)
	}
	return fmt.Sprint(ms / hour)
}

func printMembers(members []Member) string {
	var parts []string
	for _, m := range members {
		parts = append(parts, fmt.Sprintf("%s:%d", printNode(m.Node), m.Replica))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

func printSet(r *ReplicaSet) string {
	line := fmt.Sprintf(" %d bucket=%d shard=%d %s bounds=%d members=%s formed=%v", r.ID, r.Bucket, r.Shard, r.State, r.Bounds.Version, printMembers(r.Members), r.Formed)
	if r.Bounds.Version > 1 && r.State == ReplicaSetOpen {
		line += fmt.Sprintf(" until=%s", printHours(r.Bounds.Range.End))
	}
	if r.Reach != 0 {
		line += " reach=" + printHours(r.Reach)
	}
	if r.Moved {
		line += " moved"
	}
	if len(r.Joined) > 0 {
		line += fmt.Sprintf(" joined=%v", r.Joined)
	}
	if len(r.Left) > 0 {
		line += " left=" + printMembers(r.Left)
	}
	if r.Base != 0 {
		line += fmt.Sprintf(" base=%d generation=%d", r.Base, r.Generation)
	}
	if r.Pending {
		line += " pending"
	}
	if r.Announced != 0 {
		line += fmt.Sprintf(" announced=@%d", r.Announced)
	}
	if r.SealAsked {
		line += " seal-asked"
	}
	if i := r.Sealing(); i != nil {
		seal, err := wire.DecodeSeal(i.Payload)
		line += fmt.Sprintf(" sealing=%d", i.ID)
		if err != nil || len(seal.Horizons)+len(seal.Deletions) > 0 {
			folded, _ := readSealPayload(i.Payload)
			line += fmt.Sprintf(" horizons=%v folds=%v %v", seal.Horizons, foldedIDs(folded), err)
		}
	} else if add, remove, moving := r.memberChange(); moving {
		line += fmt.Sprintf(" intent=%d(", r.Intent.ID)
		if add.Replica != 0 {
			line += "+" + printMembers([]Member{add})
		}
		if remove.Replica != 0 {
			line += "-" + printMembers([]Member{remove})
		}
		line += ")"
	} else if b, ok := r.Intent.Bounds(); ok {
		line += fmt.Sprintf(" intent=%d(bounds=%d until=%s)", r.Intent.ID, b.Version, printHours(b.Range.End))
	}
	if r.Done != nil {
		line += fmt.Sprintf(" done=%+v", *r.Done)
	}
	for _, report := range r.Reports {
		line += fmt.Sprintf(" report(%d: at=%d sum=%d", report.Replica, report.Index, report.Checksum[0])
		if report.File != nil {
			line += fmt.Sprintf(" file=%d", report.File.Hash[0])
		}
		line += ")"
	}
	if r.Sealed != nil {
		line += fmt.Sprintf(" sealed(at=%d sum=%d file=%d)", r.Sealed.Index, r.Sealed.Checksum[0], r.Sealed.File.Hash[0])
	}
	if len(r.Dropped) > 0 {
		line += fmt.Sprintf(" dropped=%v", r.Dropped)
	}
	return line
}
