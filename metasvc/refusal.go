package metasvc

import (
	"fmt"

	"github.com/quorate/quorate"
)

// Reason is the closed set of reasons for which Apply refuses a command.
type Reason uint8

const (
	// ReasonInvalid is a command whose own fields break a rule.
	ReasonInvalid Reason = iota + 1
	// ReasonNoCluster is a command before the cluster record.
	ReasonNoCluster
	// ReasonConflict is a command against what is recorded already.
	ReasonConflict
	// ReasonNotFound is a command that names a record that does not exist.
	ReasonNotFound
	// ReasonOverlap is a bucket over time that another bucket of the policy has.
	ReasonOverlap
	// ReasonLimit is a command over a limit of the format.
	ReasonLimit
	// ReasonBusy is a command that something under way keeps from being done.
	ReasonBusy
	// ReasonOutdated is a command, or an answer to one, that what happened
	// since, or a newer term, has overtaken.
	ReasonOutdated
	// ReasonBudget is a command over a budget that its proposer carried in it,
	// which time gives back.
	ReasonBudget
)

// String prints the reason's name.
func (r Reason) String() string {
	switch r {
	case ReasonInvalid:
		return "invalid"
	case ReasonNoCluster:
		return "no_cluster"
	case ReasonConflict:
		return "conflict"
	case ReasonNotFound:
		return "not_found"
	case ReasonOverlap:
		return "overlap"
	case ReasonLimit:
		return "limit"
	case ReasonBusy:
		return "busy"
	case ReasonOutdated:
		return "outdated"
	case ReasonBudget:
		return "budget"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Refusal is the result of a command that Apply refused: the command changed
// nothing, on every replica alike. It is an answer, not a failure of the
// state machine.
type Refusal struct {
	Reason Reason
	// Rule says which input broke which rule.
	Rule string
}

// Error prints the rule that was broken.
func (r *Refusal) Error() string { return r.Rule }

// Kind is the kind of error that the refusal is to whoever sent the command.
func (r *Refusal) Kind() quorate.ErrorKind {
	switch r.Reason {
	case ReasonNotFound:
		return quorate.NotFound
	case ReasonNoCluster, ReasonBusy, ReasonOutdated, ReasonBudget:
		return quorate.Unavailable
	default:
		return quorate.Invalid
	}
}

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Rule: fmt.Sprintf(format, args...)}
}
