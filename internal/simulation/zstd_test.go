package simulation

import (
	"runtime"
	"testing"
	_ "unsafe" // for go:linkname
	"weak"

	"github.com/klauspost/compress/zstd"
)

// The library has one encoder and one decoder for all who need them now and
// then, as delta blocks do, and makes new ones when a collection took them away.
// Those have channels; one that is made in a bubble must not be used in another,
// nor closed by a finalizer, which is in none.

//go:linkname sharedEncoder github.com/klauspost/compress/zstd.simpleEnc
var sharedEncoder weak.Pointer[zstd.Encoder]

//go:linkname sharedDecoder github.com/klauspost/compress/zstd.simpleDec
var sharedDecoder weak.Pointer[zstd.Decoder]

// keepCodecs has the library make both here, outside of all bubbles, and keeps
// them until the function that it returns is called.
func keepCodecs(t *testing.T) (release func()) {
	t.Helper()
	if _, err := zstd.DecodeTo(nil, zstd.EncodeTo(nil, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	encoder, decoder := sharedEncoder.Value(), sharedDecoder.Value()
	if encoder == nil || decoder == nil {
		t.Fatal("the library keeps its shared codecs elsewhere now")
	}
	return func() {
		runtime.KeepAlive(encoder)
		runtime.KeepAlive(decoder)
	}
}
