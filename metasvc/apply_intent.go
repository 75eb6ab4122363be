package metasvc

import "bytes"

// Intents are kept in their set's record, which is why there is at most one
// per set (PROTOCOL 4). A seal is confirmed by its verdict (apply_seal.go), a
// change of members by the set's leader, or by the replica that has taken a
// sealed set's file (apply_members.go), new bounds by the set's leader
// (apply_cut.go).

func (c BeginIntent) apply(s *state, term uint64) any {
	set := s.sets[c.Set]
	if set == nil {
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	}
	if !c.Kind.known() {
		return refuse(ReasonInvalid, "set %d: intent kind %d is unknown", c.Set, c.Kind)
	}
	if c.Kind != IntentSeal {
		return refuse(ReasonInvalid, "set %d: a change of %s has a command of its own", c.Set, c.Kind)
	}
	if len(c.Payload) > maxIntentPayload {
		return refuse(ReasonLimit, "set %d: intent payload of %d bytes is over the limit of %d", c.Set, len(c.Payload), maxIntentPayload)
	}
	if c.Term != term {
		// A leader that lost and regained the group decided this on what it
		// knew before others led.
		return refuse(ReasonOutdated, "set %d: intent was decided in term %d, this is term %d", c.Set, c.Term, term)
	}
	if i := set.Intent; i != nil {
		if i.Kind == c.Kind && i.Term == c.Term && bytes.Equal(i.Payload, c.Payload) {
			return IntentResult{Index: s.index, Intent: i.ID}
		}
		return refuse(ReasonBusy, "set %d has intent %d (%s) under way", c.Set, i.ID, i.Kind)
	}
	if set.State == ReplicaSetDropping || s.buckets[set.Bucket].State == BucketDropping {
		return refuse(ReasonOutdated, "set %d is dropped", c.Set)
	}
	if r := s.checkSeal(set, c.Payload); r != nil {
		return r
	}
	if held := s.intentBytes(); held+len(c.Payload) > maxIntentBytes {
		return refuse(ReasonBusy, "set %d: %d bytes of intents are under way, and %d more are over the limit of %d", c.Set, held, len(c.Payload), maxIntentBytes)
	}
	begun := *set
	return s.begin(&begun, c.Kind, c.Term, c.Payload)
}

// intentBytes is the size of the payloads of all intents under way.
func (s *state) intentBytes() (n int) {
	for _, set := range s.sets {
		if set.Intent != nil {
			n += len(set.Intent.Payload)
		}
	}
	return n
}

func (c ConfirmIntent) apply(s *state, _ uint64) any {
	set := s.sets[c.Set]
	if set == nil {
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	}
	if c.LogIndex == 0 {
		return refuse(ReasonInvalid, "set %d: intent %d cannot be confirmed at log index 0", c.Set, c.Intent)
	}
	if d := set.Done; d != nil && d.ID == c.Intent {
		if d.LogIndex == c.LogIndex {
			return IntentResult{Index: s.index, Intent: c.Intent}
		}
		return refuse(ReasonConflict, "set %d: intent %d was confirmed at log index %d, not %d", c.Set, c.Intent, d.LogIndex, c.LogIndex)
	}
	if set.Intent == nil || set.Intent.ID != c.Intent {
		return refuse(ReasonOutdated, "set %d: intent %d is not under way", c.Set, c.Intent)
	}
	switch {
	case set.Sealing() != nil:
		return refuse(ReasonInvalid, "set %d: a seal is confirmed by the reports of its replicas", c.Set)
	case set.State == ReplicaSetSealed:
		return refuse(ReasonInvalid, "set %d is sealed: the replica that joins it reports that it has the file", c.Set)
	case set.Intent.Kind == IntentBounds:
		s.confirmBounds(set, c.LogIndex, c.Newest)
	default:
		s.confirmMembers(set, c.LogIndex)
	}
	return IntentResult{Index: s.index, Intent: c.Intent}
}

func (c CancelIntent) apply(s *state, term uint64) any {
	set := s.sets[c.Set]
	if set == nil {
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	}
	if set.Intent == nil || set.Intent.ID != c.Intent {
		return refuse(ReasonOutdated, "set %d: intent %d is not under way", c.Set, c.Intent)
	}
	if set.Intent.Kind != IntentMembers {
		return refuse(ReasonInvalid, "set %d: an intent of kind %s cannot be given up, its entry may stand in the set's log", c.Set, set.Intent.Kind)
	}
	return s.cancelMembers(set, term)
}
