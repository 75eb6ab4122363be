// Package e2e tests the built server from outside, over HTTP, the way its users
// meet it: a real Prometheus writes to it and must get its own answers back;
// kill -9 in the middle of a load must lose nothing that was acknowledged; and
// bad input must be told what is wrong with it.
//
// Everything here is test code. The binaries are built by the tests themselves,
// unless the environment names them:
//
//	QUORATE_BINARY         the server; default: go build ../cmd/quorate
//	QUORATE_PROMETHEUS     the real Prometheus and
//	QUORATE_PROMTOOL       its promtool; default: ../tools/prometheus/build.sh
//	QUORATE_E2E_DURATION   how long Prometheus writes before answers are compared; default 30s
//	QUORATE_E2E_ROUNDS     how often the kill test kills; default 20
package e2e
