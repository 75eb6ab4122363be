// Package remote is the edge that takes Prometheus remote write, 1.0 and 2.0:
// it negotiates the protocol, bounds what a request may cost before it costs
// it, walks the protobuf into a wire.WriteRequest without looking at labels,
// hands that to an Appender, and says over HTTP what became of it.
//
// Invariants:
//
//   - Nothing of a body is read before its content type, encoding and tenant
//     are known to be good, and nothing is allocated for a size that the body
//     only declares before that size was checked.
//   - A request whose protobuf does not decode writes nothing. A request with
//     some bad series writes all others.
//   - A status of 2xx means that every row of the request is stored; 4xx that
//     every row which is not stored must not be sent again; 5xx that a retry
//     is needed, and safe.
//   - Labels are parsed only when the Appender asks for them, which it does
//     for series it has not seen. A key stands for label bytes that were
//     validated before, or will be on that call.
//   - Shape is judged here (sizes, references, histograms, label sets on
//     request), time is not: bounds in time are the router's.
package remote
