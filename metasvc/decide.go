package metasvc

import (
	"context"
	"errors"

	"github.com/quorate/quorate"
)

// asked is a command that an operator asks for at any node and whose Term is 0 then:
// the leader says what only it may say, and commits it in its own term (PROTOCOL 17).
type asked interface {
	Command
	// decide returns the command as the leader commits it; the same where nothing
	// is missing.
	decide(v view) Command
}

// Decide returns an encoded command as it is to be committed by this node, which
// leads the metadata group: one that an operator asked for gets the leader's term
// and clock, and which replicas the leader holds for well, if the leader's clock is
// trusted; others are returned as they are. Apply refuses it in another term. The
// error is of kind Unavailable.
func (c *Controller) Decide(ctx context.Context, command []byte) ([]byte, error) {
	decoded, err := DecodeCommand(command)
	if err != nil {
		return nil, quorate.Errorf(quorate.Invalid, "metadata command: %w", err)
	}
	request, ok := decoded.(asked)
	if !ok {
		return command, nil
	}
	term, leading := c.cfg.Leadership()
	if !leading {
		return nil, unavailable(errNotLeading, "%s", decoded.Type())
	}
	err = c.cfg.Leader.ConfirmRead(ctx)
	if err == nil {
		err = c.mayAct()
	}
	held := c.tenureNow()
	if err == nil && held.term != term {
		err = errors.New("this node leads only just now")
	}
	if err != nil {
		return nil, unavailable(err, "%s", decoded.Type())
	}
	c.cfg.StateMachine.read(func(s *state) {
		command = EncodeCommand(request.decide(c.view(s, c.cfg.Now(), held)))
	})
	return command, nil
}

func (c CutBucket) decide(v view) Command {
	if c.Term == 0 {
		c.Term, c.Now = v.term, v.now.UnixMilli()
	}
	return c
}

func (c AlterPolicy) decide(v view) Command {
	if c.Term == 0 {
		c.Term, c.Now = v.term, v.now.UnixMilli()
	}
	return c
}

func (c BeginMembers) decide(v view) Command {
	if c.Term == 0 {
		c.Term = v.term
		if set := v.state.sets[c.Set]; set != nil {
			c.Well = v.well(set)
		}
	}
	return c
}

// well are the members of a set, rising, that have formed, whose nodes are heard of
// and do not say that they are broken. A node that has said nothing since this one
// leads is not counted on: its replica may be broken.
func (v view) well(set *ReplicaSet) (well []quorate.ReplicaID) {
	for _, m := range set.Members {
		if _, heard := v.beatOf(m.Node); heard && !v.absent(m.Node) && v.sick[m] == "" && set.hasFormed(m.Replica) {
			well = with(well, m.Replica)
		}
	}
	return well
}
