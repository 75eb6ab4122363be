package house

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
)

const protocol = "docs/protocol.md"

// The headers of the tables of docs/protocol.md that say which rules today's code
// lives by, and which tests would fail without them.
var (
	stateHeader = []string{"rules", "state"}
	testsHeader = []string{"rule", "tests"}
)

// notBuilt begins the state of rules whose parts do not exist yet.
const notBuilt = "wait for "

var (
	// ruleNumber begins the paragraph of a rule.
	ruleNumber = regexp.MustCompile(`(?m)^(\d+)\. `)
	// numberedTest is the name of a test that fails when the rule of its number
	// is broken.
	numberedTest = regexp.MustCompile(`^TestProtocol(\d+)[A-Z]`)
)

// Protocol checks that each rule of docs/protocol.md has tests, by the table rule
// | tests there: a row for each rule that the table rules | state does not have
// waiting for its parts, and in the row a test that carries the rule's number, as
// TestProtocol12 and so on. The tests that the table names must exist, and those
// that carry a number must stand in that rule's row. A tree without the document
// has no rules.
func Protocol(t *Tree) []Problem {
	doc, _ := t.text(protocol)
	rows, problems := t.testRows(doc)
	waiting := waitingRules(doc)
	for _, m := range ruleNumber.FindAllSubmatch(doc, -1) {
		if rule := string(m[1]); rows[rule] == nil && !slices.Contains(waiting, rule) {
			problems = append(problems, Problem{protocol, 0, fmt.Sprintf(
				"rule %s has no row in the table of tests; name the tests that fail without it, or what it waits for in the table of what is in force", rule)})
		}
	}
	for _, test := range t.tests() {
		if m := numberedTest.FindStringSubmatch(test); m != nil && !slices.Contains(rows[m[1]], test) {
			problems = append(problems, Problem{protocol, 0, fmt.Sprintf("the row of rule %s does not name %s; add it", m[1], test)})
		}
	}
	return problems
}

// testRows returns the tests that the table names by rule.
func (t *Tree) testRows(doc []byte) (rows map[string][]string, problems []Problem) {
	rows = map[string][]string{}
	exist := t.tests()
	for _, row := range table(doc, testsHeader) {
		rule, numbered := row.cells[0], false
		rows[rule] = []string{}
		for _, name := range quoted(row.cells[1]) {
			name, _, _ = strings.Cut(name, "/") // a subtest's own name
			if !strings.HasPrefix(name, "Test") {
				continue
			}
			rows[rule] = append(rows[rule], name)
			m := numberedTest.FindStringSubmatch(name)
			numbered = numbered || m != nil && m[1] == rule
			if !slices.Contains(exist, name) {
				problems = append(problems, Problem{protocol, row.line, fmt.Sprintf("names %s, which is no test; name what it is called now", name)})
			}
		}
		if !numbered {
			problems = append(problems, Problem{protocol, row.line, fmt.Sprintf(
				"names no test of rule %s that carries its number; call the one that fails without it TestProtocol%[1]s and what it shows", rule)})
		}
	}
	return rows, problems
}

// waitingRules lists the rules that are not built.
func waitingRules(doc []byte) (rules []string) {
	for _, row := range table(doc, stateHeader) {
		if strings.HasPrefix(row.cells[1], notBuilt) {
			rules = append(rules, strings.Split(row.cells[0], ", ")...)
		}
	}
	return rules
}

// tests lists the tests of all packages.
func (t *Tree) tests() (names []string) {
	for _, f := range t.Go {
		if !f.Test {
			continue
		}
		for _, decl := range f.Syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}
