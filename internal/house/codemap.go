package house

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	architecture = "ARCHITECTURE.md"
	// maxArchitectureLines keeps the document readable in one sitting.
	maxArchitectureLines = 250
	// rootName is how the table writes the root package.
	rootName = "quorate"
	// everyPackage is the row whose permissions all packages have.
	everyPackage = "every package"
)

// The headers by which the two tables are found in ARCHITECTURE.md.
var (
	codemapHeader  = []string{"package", "job", "may import"}
	reservedHeader = []string{"import", "only in", "why"}
)

// room is one row of the codemap.
type room struct {
	line int
	// imports are the project packages that any file may import; testImports
	// are those that only test files may.
	imports, testImports []string
}

// Codemap checks every package and every import edge inside the project against
// the codemap table of ARCHITECTURE.md, whose columns are package | job | may
// import. The third column lists project packages in backquotes; those after
// "tests:" are open to test files alone. The row "every package" holds for all.
// The root package may import only the standard library, whatever the table
// says. A directory without a row and a row without a directory are problems,
// and so is a document of more than 250 lines.
func Codemap(t *Tree) []Problem {
	doc, ok := t.text(architecture)
	if !ok {
		return []Problem{{Path: architecture, What: "is missing; write it with a codemap table: package | job | may import"}}
	}
	var problems []Problem
	if n := bytes.Count(doc, []byte("\n")); n > maxArchitectureLines {
		problems = append(problems, Problem{architecture, 0, fmt.Sprintf(
			"has %d lines; keep it under %d and move detail to the package's doc.go or DESIGN.md", n, maxArchitectureLines)})
	}
	rooms := map[string]room{}
	for _, row := range table(doc, codemapHeader) {
		name := strings.Trim(row.cells[0], "`* ")
		if _, twice := rooms[name]; twice {
			problems = append(problems, Problem{architecture, row.line, fmt.Sprintf("lists %s twice; merge the rows", name)})
		}
		open, tests, _ := strings.Cut(row.cells[2], "tests:")
		rooms[name] = room{line: row.line, imports: quoted(open), testImports: quoted(tests)}
		if name != everyPackage && name != rootName && !t.Dirs[name] {
			problems = append(problems, Problem{architecture, row.line, fmt.Sprintf("lists %s, which is no directory; remove the row", name)})
		}
	}
	problems = append(problems, t.unlisted(rooms)...)
	for _, f := range t.Go {
		problems = append(problems, t.edges(f, rooms)...)
	}
	return problems
}

func (t *Tree) unlisted(rooms map[string]room) []Problem {
	var problems []Problem
	seen := map[string]bool{}
	for _, f := range t.Go {
		name := roomName(f.Dir)
		if _, ok := rooms[name]; !ok && !seen[name] {
			seen[name] = true
			problems = append(problems, Problem{f.Dir, 0, fmt.Sprintf(
				"package has no row in the codemap of %s; add one that says its job in a sentence without \"and\", or move the code to the package whose job it is",
				architecture)})
		}
	}
	return problems
}

func (t *Tree) edges(f GoFile, rooms map[string]room) []Problem {
	from := roomName(f.Dir)
	own, ok := rooms[from]
	if !ok {
		return nil // reported once by unlisted
	}
	all := rooms[everyPackage]
	allowed := slices.Concat(own.imports, all.imports)
	if f.Test {
		// A package's own external tests import the package itself.
		allowed = slices.Concat(allowed, own.testImports, all.testImports, []string{from})
	}
	var problems []Problem
	for _, spec := range f.Syntax.Imports {
		imported := importPath(spec.Path.Value)
		to, inside := t.projectPackage(imported)
		switch {
		case from == rootName && !f.Test && strings.Contains(firstElement(imported), "."):
			problems = append(problems, Problem{f.Path, t.line(spec.Pos()), fmt.Sprintf(
				"the root package imports %s, but only the standard library is allowed there; define the noun here and the behaviour in a room", imported)})
		case inside && !slices.Contains(allowed, to):
			remedy := "declare the small interface you need here and let internal/node wire it"
			if f.Test {
				remedy = "write the fake you need by hand, or list the import after \"tests:\" in the row of " + from
			}
			problems = append(problems, Problem{f.Path, t.line(spec.Pos()), fmt.Sprintf(
				"%s imports %s, which the codemap of %s does not allow; %s", from, to, architecture, remedy)})
		}
	}
	return problems
}

// Reserved checks the imports that ARCHITECTURE.md reserves to some packages,
// by its table import | only in | why. An import stands for itself, or with a
// trailing "/..." for all below it too; "nothing" in the second column bars it
// everywhere. Test files are not exempt.
func Reserved(t *Tree) []Problem {
	doc, ok := t.text(architecture)
	if !ok {
		return nil // reported by Codemap
	}
	rows := table(doc, reservedHeader)
	if len(rows) == 0 {
		return []Problem{{architecture, 0, "has no table import | only in | why; reserve at least hashicorp/raft"}}
	}
	var problems []Problem
	for _, f := range t.Go {
		for _, spec := range f.Syntax.Imports {
			imported := importPath(spec.Path.Value)
			for _, row := range rows {
				if !matches(row.cells[0], imported) || slices.Contains(quoted(row.cells[1]), roomName(f.Dir)) {
					continue
				}
				problems = append(problems, Problem{f.Path, t.line(spec.Pos()), fmt.Sprintf(
					"imports %s, reserved to %s: %s", imported, row.cells[1], row.cells[2])})
			}
		}
	}
	return problems
}

func matches(cell, imported string) bool {
	for _, pattern := range quoted(cell) {
		prefix, tree := strings.CutSuffix(pattern, "/...")
		if imported == prefix || tree && strings.HasPrefix(imported, prefix+"/") {
			return true
		}
	}
	return false
}

// projectPackage turns an import path into the name that the codemap uses.
func (t *Tree) projectPackage(imported string) (name string, inside bool) {
	if imported == t.Module {
		return rootName, true
	}
	return strings.CutPrefix(imported, t.Module+"/")
}

func roomName(dir string) string {
	if dir == "." {
		return rootName
	}
	return path.Clean(dir)
}

func importPath(literal string) string {
	p, err := strconv.Unquote(literal)
	if err != nil {
		return literal // the parser accepts nothing that cannot be unquoted
	}
	return p
}

func firstElement(imported string) string {
	first, _, _ := strings.Cut(imported, "/")
	return first
}

// tableRow is one row of a Markdown table below its header.
type tableRow struct {
	line  int
	cells []string
}

// table returns the rows of the first Markdown table with the given header.
func table(doc []byte, header []string) []tableRow {
	var rows []tableRow
	inside := false
	n := 0
	for text := range strings.Lines(string(doc)) {
		n++
		cells := cellsOf(text)
		switch {
		case !inside:
			inside = slices.Equal(cells, header)
		case len(cells) != len(header):
			return rows
		case strings.Trim(strings.Join(cells, ""), "-: ") != "":
			rows = append(rows, tableRow{line: n, cells: cells})
		}
	}
	return rows
}

func cellsOf(line string) []string {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") || !strings.HasSuffix(line, "|") || len(line) < 2 {
		return nil
	}
	cells := strings.Split(line[1:len(line)-1], "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

var backquoted = regexp.MustCompile("`([^`]+)`")

func quoted(cell string) []string {
	var names []string
	for _, m := range backquoted.FindAllStringSubmatch(cell, -1) {
		names = append(names, m[1])
	}
	return names
}
