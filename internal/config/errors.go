package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is a setting that cannot stand, with where it was set and why not.
type Error struct {
	// Origin is "file:line", or the flag's name; "default" where two settings
	// disagree and the one named was not set.
	Origin string
	// Setting is its path in the file, as "query.timeout".
	Setting string
	// Err says which rule is broken, and by what.
	Err error
}

// Error prints the three parts, as "quorate.yml:12: query.timeout: 2x is …"; of a
// flag that is named as its setting, the name once.
func (e *Error) Error() string {
	if e.Origin == "--"+e.Setting {
		return fmt.Sprintf("%s: %v", e.Origin, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Origin, e.Setting, e.Err)
}

// Unwrap returns the broken rule.
func (e *Error) Unwrap() error { return e.Err }

// OfFlag tells whether an error of Load names a setting that a flag has set.
func OfFlag(err error) bool {
	if joined, several := err.(interface{ Unwrap() []error }); several {
		return slices.ContainsFunc(joined.Unwrap(), OfFlag)
	}
	var setting *Error
	return errors.As(err, &setting) && strings.HasPrefix(setting.Origin, "--")
}
