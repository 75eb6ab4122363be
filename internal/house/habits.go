package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"regexp"
)

// NoSleep checks that nothing calls or passes on time.Sleep, in tests neither.
func NoSleep(t *Tree) []Problem {
	var problems []Problem
	for _, f := range t.Go {
		clock := importName(f, "time")
		if clock == "" {
			continue
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == clock {
				problems = append(problems, Problem{f.Path, t.line(sel.Pos()),
					"time.Sleep; wait for the event itself with a channel or a timer in a select, in tests poll with internal/testwait, or let the time of a testing/synctest bubble pass with <-time.NewTimer(d).C"})
			}
			return true
		})
	}
	return problems
}

// importName returns the name under which a file uses an import, "" if it does
// not import it. It serves only packages named as the end of their path.
func importName(f GoFile, imported string) string {
	for _, spec := range f.Syntax.Imports {
		if importPath(spec.Path.Value) != imported {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return imported
	}
	return ""
}

// NoInit checks that no file but a test has an init function.
func NoInit(t *Tree) []Problem {
	var problems []Problem
	for _, f := range t.Go {
		if f.Test || f.Generated {
			continue
		}
		for _, decl := range f.Syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				problems = append(problems, Problem{f.Path, t.line(fn.Pos()),
					"func init; construct it where it is used and pass it in, internal/node is where parts meet"})
			}
		}
	}
	return problems
}

// elsewhere matches what exists only on the machine of whoever wrote it: paths
// into a home or work directory, and the folder beside the repository.
var elsewhere = regexp.MustCompile(`(^|[^\w.~}-])/(work|root|home)/|\.\./shared\b`)

// NoMachinePaths checks that no text file speaks of the machine that it was
// written on.
func NoMachinePaths(t *Tree) []Problem {
	var problems []Problem
	for _, f := range t.Text {
		for i, line := range bytes.Split(f.Data, []byte("\n")) {
			if found := elsewhere.Find(line); found != nil {
				problems = append(problems, Problem{f.Path, i + 1, fmt.Sprintf(
					"mentions %q, which exists on one machine only; use a path inside the repository, or write the fact down here", found)})
			}
		}
	}
	return problems
}
