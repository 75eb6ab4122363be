package remote

import "errors"

// What is wrong with a series' labels, where there is nothing more to say.
var (
	errNoLabels        = errors.New("it has no labels")
	errNoName          = errors.New("label __name__ is missing or empty")
	errMalformedLabels = errors.New("its labels do not decode: bad protobuf")
)
