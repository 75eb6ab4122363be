// Package config holds the server's settings: their defaults, their rules, and
// the strict reading of the YAML file that changes them.
//
// Every setting is declared once, in settings.go, with its path in the file,
// its meaning, its unit and its range. Reading, validating, overriding by flag
// and docs/config.md all follow from that declaration, and a test fails when
// the Config struct or the document disagrees with it.
//
// Invariants:
//
//   - What Load returns is valid as a whole; nobody checks a setting again.
//   - An error names the file and line (or the flag) that set the offending
//     value, the setting, and the rule it broke. Load reports all errors of a
//     file at once.
//   - Nothing is ignored: an unknown, repeated or empty setting is an error.
package config
