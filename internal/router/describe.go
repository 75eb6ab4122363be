package router

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/wire"
)

// maxDescribedBytes bounds how much of a client's labels an error repeats.
const maxDescribedBytes = 512

// describe prints canonical labels as Prometheus writes them, escaped and cut
// to maxDescribedBytes, for errors that name a series.
func describe(canonical []byte) string {
	var b strings.Builder
	b.WriteByte('{')
	it := wire.IterLabels(canonical)
	for n := 0; it.Next(); n++ {
		if n > 0 {
			b.WriteString(", ")
		}
		b.Write(it.Name())
		b.WriteByte('=')
		b.WriteString(strconv.Quote(string(it.Value())))
		if b.Len() > maxDescribedBytes {
			return strings.ToValidUTF8(b.String()[:cutAt(b.String())], "") + "…}"
		}
	}
	b.WriteByte('}')
	return b.String()
}

// cutAt returns the last rune start at or before maxDescribedBytes.
func cutAt(s string) int {
	at := maxDescribedBytes
	for at > 0 && !utf8.RuneStart(s[at]) {
		at--
	}
	return at
}
