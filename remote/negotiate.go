package remote

import (
	"mime"
	"net/http"
	"strings"

	"github.com/quorate/quorate"
)

const protobufType = "application/x-protobuf"

// negotiate tells the protocol version of a request by its headers alone. Its
// error is of kind Unsupported. A missing Content-Type is taken for RW 1.0 and
// a missing Content-Encoding for snappy, as Prometheus' own receiver does.
func negotiate(header http.Header) (version, error) {
	v, err := messageVersion(header.Get("Content-Type"))
	if err != nil {
		return versionNone, err
	}
	switch encodings := header.Values("Content-Encoding"); {
	case len(encodings) == 0 || len(encodings) == 1 && encodings[0] == "":
	case len(encodings) == 1 && strings.EqualFold(encodings[0], "snappy"):
	default:
		return versionNone, quorate.Errorf(quorate.Unsupported, "Content-Encoding is %s; only snappy is spoken here", quoteShort([]byte(strings.Join(encodings, ", "))))
	}
	return v, nil
}

func messageVersion(contentType string) (version, error) {
	switch contentType { // what senders write, to the letter
	case "", protobufType, protobufType + ";proto=prometheus.WriteRequest":
		return version1, nil
	case protobufType + ";proto=io.prometheus.write.v2.Request":
		return version2, nil
	}
	media, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || media != protobufType {
		return versionNone, quorate.Errorf(quorate.Unsupported, "Content-Type is %s; only %s is spoken here", quoteShort([]byte(contentType)), protobufType)
	}
	switch proto, given := parameters["proto"]; {
	case !given, proto == version1.messageName():
		return version1, nil
	case proto == version2.messageName():
		return version2, nil
	default:
		return versionNone, quorate.Errorf(quorate.Unsupported, "Content-Type asks for the message %s; known are %s and %s",
			quoteShort([]byte(proto)), version1.messageName(), version2.messageName())
	}
}
