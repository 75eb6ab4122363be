package house_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/quorate/quorate/internal/house"
)

// checks are all the rules, by the name under which a failure is reported.
var checks = []struct {
	name  string
	check func(*house.Tree) []house.Problem
}{
	{"imports follow the codemap", house.Codemap},
	{"reserved imports stay in their room", house.Reserved},
	{"packages and exported names are documented", house.Documented},
	{"files and functions are short", house.Sizes},
	{"nothing sleeps", house.NoSleep},
	{"nothing runs in init", house.NoInit},
	{"no file speaks of its author's machine", house.NoMachinePaths},
	{"each rule of the protocol has its tests", house.Protocol},
}

func TestTheProjectKeepsTheRulesOfTheHouse(t *testing.T) {
	tree, err := house.Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			for _, p := range c.check(tree) {
				t.Error(p)
			}
		})
	}
}

// source is a small tree that keeps all the rules; the tests below break one
// each.
func source() map[string]string {
	return map[string]string{
		"go.mod": "module example.org/q\n",
		"ARCHITECTURE.md": `# Architecture
| package | job | may import |
|---|---|---|
| *every package* | | tests: ` + "`testwait`" + ` |
| ` + "`quorate`" + ` | nouns | |
| ` + "`store`" + ` | keeps | ` + "`quorate`; tests: `node`" + ` |
| ` + "`node`" + ` | builds | ` + "`quorate`, `store`" + ` |
| ` + "`testwait`" + ` | polls | |

| import | only in | why |
|---|---|---|
| ` + "`example.com/raft/...`" + ` | ` + "`store`" + ` | one room knows Raft |
| ` + "`math/rand`" + ` | nothing | use math/rand/v2 |
`,
		"docs/protocol.md": `# The protocol
1. IDs are never reused.
2. **A group is born once.**
3. Steps are pushed down.

| rules | state |
|---|---|
| 1, 2 | in force |
| 3, 4 | wait for pushdown |

| rule | tests |
|---|---|
| 1 | store ` + "`TestProtocol1IDsStay`" + ` and script.go. Also ` + "`TestScripts/ids`, `testdata`" + ` |
| 2 | store ` + "`TestProtocol2BirthIsOnce`" + ` |
`,
		"store/protocol_test.go": "package store_test\n\nfunc TestProtocol1IDsStay() {}\n\nfunc TestProtocol2BirthIsOnce() {}\n\nfunc TestScripts() {}\n",

		"doc.go":               "// Package quorate is nouns.\npackage quorate\n",
		"store/doc.go":         "// Package store keeps.\npackage store\n\nimport (\n\t_ \"example.com/raft/log\"\n\t_ \"example.org/q\"\n)\n",
		"store/store_test.go":  "package store_test\n\nimport (\n\t_ \"example.org/q/node\"\n\t_ \"example.org/q/store\"\n\t_ \"example.org/q/testwait\"\n)\n",
		"node/doc.go":          "// Package node builds.\npackage node\n\nimport _ \"example.org/q/store\"\n",
		"testwait/testwait.go": "// Package testwait polls.\npackage testwait\n",
		".git/config":          "url = /" + "home/someone/repository\n",
	}
}

func problems(t *testing.T, files map[string]string) []string {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tree, err := house.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, c := range checks {
		for _, p := range c.check(tree) {
			found = append(found, c.name+": "+p.String())
		}
	}
	return found
}

func TestAGoodTreeHasNoProblems(t *testing.T) {
	if found := problems(t, source()); len(found) != 0 {
		t.Errorf("want none, got %q", found)
	}
}

func TestABadExampleOfEachRuleIsFound(t *testing.T) {
	documented := "// Package store keeps.\npackage store\n"
	for _, test := range []struct {
		name string
		// file is written over the good tree.
		file, text string
		// want is the rule and a part of the report.
		want [2]string
	}{
		{"an edge that the codemap does not list", "store/edge.go", "package store\n\nimport _ \"example.org/q/node\"\n",
			[2]string{"codemap", "store/edge.go:3: store imports node"}},
		{"an edge that only tests may have, in other code", "node/edge.go", "package node\n\nimport _ \"example.org/q/testwait\"\n",
			[2]string{"codemap", "node/edge.go:3: node imports testwait"}},
		{"a test's edge that no row lists", "node/edge_test.go", "package node\n\nimport _ \"example.org/q/other\"\n",
			[2]string{"codemap", "node/edge_test.go:3: node imports other"}},
		{"an edge from a nested module", "e2e/e2e.go", "// Package e2e tests.\npackage e2e\n",
			[2]string{"codemap", "e2e: package has no row"}},
		{"a package that the codemap does not list", "util/doc.go", "// Package util drawers.\npackage util\n",
			[2]string{"codemap", "util: package has no row"}},
		{"a package of tests that the codemap does not list", "dash/dash_test.go", "// Package dash tests.\npackage dash\n",
			[2]string{"codemap", "dash: package has no row"}},
		{"a row for a package that is gone", "ARCHITECTURE.md", strings.Replace(
			source()["ARCHITECTURE.md"], "| `testwait` | polls | |", "| `testwait` | polls | |\n| `gone` | went | |", 1),
			[2]string{"codemap", "ARCHITECTURE.md:9: lists gone, which is no directory"}},
		{"the root package with a dependency", "dep.go", "package quorate\n\nimport _ \"example.com/log\"\n",
			[2]string{"codemap", "dep.go:3: the root package imports example.com/log"}},
		{"an architecture without an end", "ARCHITECTURE.md", source()["ARCHITECTURE.md"] + strings.Repeat("\n", 250),
			[2]string{"codemap", "ARCHITECTURE.md: has 263 lines"}},
		{"a reserved import elsewhere", "node/raft.go", "package node\n\nimport _ \"example.com/raft\"\n",
			[2]string{"reserved", "node/raft.go:3: imports example.com/raft, reserved to `store`"}},
		{"a reserved import in a test elsewhere", "node/raft_test.go", "package node\n\nimport _ \"example.com/raft/log\"\n",
			[2]string{"reserved", "node/raft_test.go:3: imports example.com/raft/log"}},
		{"an import reserved to nothing", "store/rand.go", "package store\n\nimport _ \"math/rand\"\n",
			[2]string{"reserved", "store/rand.go:3: imports math/rand, reserved to nothing"}},
		{"a package without a comment", "testwait/testwait.go", "package testwait\n",
			[2]string{"documented", "testwait: package testwait has no package comment"}},
		{"a package with two comments", "store/more.go", documented,
			[2]string{"documented", "store: package store has 2 package comments"}},
		{"a package comment that begins otherwise", "testwait/testwait.go", "// This package polls.\npackage testwait\n",
			[2]string{"documented", "does not begin with \"Package testwait \""}},
		{"an undocumented function", "store/f.go", "package store\n\nfunc F() {}\n",
			[2]string{"documented", "store/f.go:3: exported func F"}},
		{"an undocumented method", "store/m.go", "package store\n\n// T is.\ntype T[K any] struct{}\n\nfunc (t *T[K]) M() {}\n",
			[2]string{"documented", "store/m.go:6: exported method T.M"}},
		{"an undocumented type", "store/t.go", "package store\n\ntype T struct{}\n",
			[2]string{"documented", "store/t.go:3: exported type T"}},
		{"an undocumented type in a documented group", "store/t.go", "package store\n\n// These are.\ntype (\n\tT struct{}\n)\n",
			[2]string{"documented", "store/t.go:5: exported type T"}},
		{"an undocumented variable", "store/v.go", "package store\n\nvar (\n\tA = 1 // A is.\n\tB = 2\n)\n",
			[2]string{"documented", "store/v.go:5: exported var B"}},
		{"a long file", "store/long.go", "package store\n" + strings.Repeat("\n", 600),
			[2]string{"short", "store/long.go: has 601 lines"}},
		{"a long function", "store/long.go", "package store\n\nfunc f() {" + strings.Repeat("\n", 80) + "}\n",
			[2]string{"short", "store/long.go:3: func f has 81 lines"}},
		{"a sleep", "store/sleep.go", "package store\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n",
			[2]string{"sleeps", "store/sleep.go:5: time.Sleep"}},
		{"a sleep in a test under another name", "store/sleep_test.go", "package store\n\nimport clock \"time\"\n\nvar pause = clock.Sleep\n",
			[2]string{"sleeps", "store/sleep_test.go:5: time.Sleep"}},
		{"an init", "store/init.go", "package store\n\nfunc init() {}\n",
			[2]string{"init", "store/init.go:3: func init"}},
		{"a path of one machine in a document", "docs/a.md", "# A\nsee /" + "work/main\n",
			[2]string{"machine", "docs/a.md:2: mentions \" /" + "work/\""}},
		{"a path of one machine in CI", ".ci/run", "cd ../" + "shared\n",
			[2]string{"machine", ".ci/run:1: mentions"}},
		{"a rule without a row of tests", "docs/protocol.md", strings.Replace(
			source()["docs/protocol.md"], "3, 4 | wait for", "3, 4 | wait no more for", 1),
			[2]string{"protocol", "docs/protocol.md: rule 3 has no row"}},
		{"a row of tests that carry no number", "docs/protocol.md", source()["docs/protocol.md"] + "| 3 | store `TestScripts` |\n",
			[2]string{"protocol", "docs/protocol.md:15: names no test of rule 3"}},
		{"a row that names a test that is gone", "docs/protocol.md", strings.Replace(
			source()["docs/protocol.md"], "`TestScripts/ids`", "`TestGone/ids`", 1),
			[2]string{"protocol", "docs/protocol.md:13: names TestGone, which is no test"}},
		{"a test of a rule that its row does not name", "node/more_test.go", "package node\n\nfunc TestProtocol1IDsStayEverywhere() {}\n",
			[2]string{"protocol", "the row of rule 1 does not name TestProtocol1IDsStayEverywhere"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := source()
			files[test.file] = test.text
			found := problems(t, files)
			if !slices.ContainsFunc(found, func(p string) bool {
				return strings.Contains(p, test.want[0]) && strings.Contains(p, test.want[1])
			}) {
				t.Errorf("want a problem of the rule %q with %q, got %q", test.want[0], test.want[1], found)
			}
			if len(found) != 1 {
				t.Errorf("want that problem alone, got %q", found)
			}
		})
	}
}

func TestWhatTheRulesLeaveAlone(t *testing.T) {
	for _, test := range []struct{ name, file, text string }{
		{"an undocumented name in a test", "store/x_test.go", "package store\n\nfunc F() {}\n"},
		{"an undocumented method of a type that is not exported", "store/x.go", "package store\n\ntype t int\n\nfunc (t) M() {}\n"},
		{"constants under the comment of their group", "store/x.go", "package store\n\n// These are.\nconst (\n\tA = 1\n\tB = 2\n)\n"},
		{"a long generated file", "store/x.go", "// Code generated by hand. DO NOT EDIT.\n\npackage store\n" + strings.Repeat("\n", 700)},
		{"a long test", "store/x_test.go", "package store\n\nfunc f() {" + strings.Repeat("\n", 700) + "}\n"},
		{"an init of a test", "store/x_test.go", "package store\n\nfunc init() {}\n"},
		{"a method named init", "store/x.go", "package store\n\ntype t int\n\nfunc (t) init() {}\n"},
		{"a Sleep that is not the clock's", "store/x.go", "package store\n\nvar f = bed.Sleep\n"},
		{"a path below another", "README.md", "see docs/home/page and https://example.org/" + "work/\n"},
		{"what a server left behind", "data/identity", "/" + "home/someone\n"},
		{"a binary", "logo.png", "\x00/" + "home/someone\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := source()
			files[test.file] = test.text
			if found := problems(t, files); len(found) != 0 {
				t.Errorf("want none, got %q", found)
			}
		})
	}
}

func TestATreeThatCannotBeRead(t *testing.T) {
	for name, files := range map[string]fstest.MapFS{
		"without a module":             {"doc.go": &fstest.MapFile{Data: []byte("package q\n")}},
		"with a file that is not Go":   {"go.mod": &fstest.MapFile{Data: []byte("module q\n")}, "a.go": &fstest.MapFile{Data: []byte("pack")}},
		"with a go.mod without a name": {"go.mod": &fstest.MapFile{Data: []byte("go 1.26\n")}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := house.Load(files); err == nil {
				t.Error("want an error, got none")
			}
		})
	}
}
