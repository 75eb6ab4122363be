package metasvc

import "fmt"

// Space is how much room a node's file system has left for data.
type Space uint8

// The levels of space, each with less than the one before.
const (
	// SpaceAmple is enough.
	SpaceAmple Space = iota
	// SpaceLow is that of a node which gets no replica that can lie elsewhere,
	// and leads no set that another can lead.
	SpaceLow
	// SpaceFull is that of a node which takes no writes, and stores only what
	// leaders elsewhere send it.
	SpaceFull
	// SpaceExhausted is that of a node which stores nothing at all.
	SpaceExhausted
)

// String prints the level's name.
func (s Space) String() string {
	switch s {
	case SpaceAmple:
		return "ample"
	case SpaceLow:
		return "low"
	case SpaceFull:
		return "full"
	case SpaceExhausted:
		return "exhausted"
	}
	return fmt.Sprintf("Space(%d)", uint8(s))
}
