package house

import (
	"fmt"
	"go/ast"
)

const (
	maxFileLines     = 600
	maxFunctionLines = 80
)

// Sizes checks that no file is over 600 lines and no function over 80, from its
// func to its closing brace. Test files and generated files are exempt.
func Sizes(t *Tree) []Problem {
	var problems []Problem
	for _, f := range t.Go {
		if f.Test || f.Generated {
			continue
		}
		if f.Lines > maxFileLines {
			problems = append(problems, Problem{f.Path, 0, fmt.Sprintf(
				"has %d lines, more than %d; give each of its nouns a file", f.Lines, maxFileLines)})
		}
		for _, decl := range f.Syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := t.line(fn.End()) - t.line(fn.Pos()) + 1; n > maxFunctionLines {
				problems = append(problems, Problem{f.Path, t.line(fn.Pos()), fmt.Sprintf(
					"func %s has %d lines, more than %d; name its steps and make them functions", fn.Name.Name, n, maxFunctionLines)})
			}
		}
	}
	return problems
}
