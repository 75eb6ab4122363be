package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// value is a field of a Config together with what may stand in it.
type value interface {
	// set parses and checks text; an error says what is wrong with it and
	// leaves the field as it is.
	set(text string) error
	// String prints the field's value so that set would take it.
	String() string
	// kind is the word for the type in errors and documents.
	kind() string
	// rule is the range in words.
	rule() string
	// tags are the YAML types in which the value may be written; nil is any.
	tags() []string
	// target is the address of the field.
	target() any
}

type boolValue struct{ field *bool }

func (v boolValue) set(text string) error {
	switch text {
	case "true":
		*v.field = true
	case "false":
		*v.field = false
	default:
		return fmt.Errorf("%q is neither true nor false", text)
	}
	return nil
}

func (v boolValue) String() string { return strconv.FormatBool(*v.field) }
func (boolValue) kind() string     { return "boolean" }
func (boolValue) rule() string     { return "true, false" }
func (boolValue) tags() []string   { return []string{"!!bool"} }
func (v boolValue) target() any    { return v.field }

type countValue struct {
	field    *int
	min, max int
}

func (v countValue) set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%q is not a whole number", text)
	}
	if n < v.min || n > v.max {
		return fmt.Errorf("%d is outside %s", n, v.rule())
	}
	*v.field = n
	return nil
}

func (v countValue) String() string { return strconv.Itoa(*v.field) }
func (countValue) kind() string     { return "whole number" }
func (v countValue) rule() string   { return fmt.Sprintf("%d to %d", v.min, v.max) }
func (countValue) tags() []string   { return []string{"!!int"} }
func (v countValue) target() any    { return v.field }

type bytesValue struct {
	field    *Bytes
	min, max Bytes
}

func (v bytesValue) set(text string) error {
	n, err := ParseBytes(text)
	if err != nil {
		return err
	}
	if n < v.min || n > v.max {
		return fmt.Errorf("%v is outside %s", n, v.rule())
	}
	*v.field = n
	return nil
}

func (v bytesValue) String() string { return v.field.String() }
func (bytesValue) kind() string     { return "size" }
func (v bytesValue) rule() string   { return fmt.Sprintf("%v to %v", v.min, v.max) }
func (bytesValue) tags() []string   { return []string{"!!int", "!!str"} }
func (v bytesValue) target() any    { return v.field }

type durationValue struct {
	field    *time.Duration
	min, max time.Duration
}

func (v durationValue) set(text string) error {
	d, err := model.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 30s, 5m, 24h or 30d", text)
	}
	if time.Duration(d) < v.min || time.Duration(d) > v.max {
		return fmt.Errorf("%s is outside %s", text, v.rule())
	}
	*v.field = time.Duration(d)
	return nil
}

func (v durationValue) String() string { return model.Duration(*v.field).String() }
func (durationValue) kind() string     { return "duration" }
func (v durationValue) rule() string {
	return fmt.Sprintf("%v to %v", model.Duration(v.min), model.Duration(v.max))
}
func (durationValue) tags() []string { return []string{"!!str", "!!int"} }
func (v durationValue) target() any  { return v.field }

type choiceValue struct {
	field   *string
	choices []string
}

func (v choiceValue) set(text string) error {
	if !slices.Contains(v.choices, text) {
		return fmt.Errorf("%q is none of %s", text, v.rule())
	}
	*v.field = text
	return nil
}

func (v choiceValue) String() string { return *v.field }
func (choiceValue) kind() string     { return "word" }
func (v choiceValue) rule() string   { return strings.Join(v.choices, ", ") }
func (choiceValue) tags() []string   { return []string{"!!str"} }
func (v choiceValue) target() any    { return v.field }

// textValue is a string that a check of its own judges.
type textValue struct {
	field *string
	word  string // the kind
	must  string // the rule
	check func(string) error
}

func (v textValue) set(text string) error {
	if err := v.check(text); err != nil {
		return err
	}
	*v.field = text
	return nil
}

func (v textValue) String() string { return *v.field }
func (v textValue) kind() string   { return v.word }
func (v textValue) rule() string   { return v.must }
func (textValue) tags() []string   { return nil }
func (v textValue) target() any    { return v.field }
