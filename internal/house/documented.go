package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
)

// Documented checks that every package has a package comment that begins as
// godoc expects, and that every exported type, function, method of an exported
// type, constant and variable has a comment. The comment of a parenthesised
// group documents its constants and variables, but not its types. Test files
// and generated files are exempt, except that a package made of test files
// alone needs a package comment too.
func Documented(t *Tree) []Problem {
	var problems []Problem
	for _, p := range packagesOf(t) {
		problems = append(problems, p.undocumented()...)
	}
	for _, f := range t.Go {
		if f.Test || f.Generated {
			continue
		}
		for _, decl := range f.Syntax.Decls {
			for _, bare := range undocumented(decl) {
				problems = append(problems, Problem{f.Path, t.line(bare.pos), fmt.Sprintf(
					"exported %s has no comment; say above it what it promises, with units, ranges and errors", bare.what)})
			}
		}
	}
	return problems
}

// packageDoc is what decides whether a package is documented.
type packageDoc struct {
	dir, name string
	onlyTests bool
	docs      []string
}

func packagesOf(t *Tree) []*packageDoc {
	var packages []*packageDoc
	byDir := map[string]*packageDoc{}
	for _, f := range t.Go {
		p := byDir[f.Dir]
		if p == nil {
			p = &packageDoc{dir: f.Dir, name: strings.TrimSuffix(f.Syntax.Name.Name, "_test"), onlyTests: true}
			byDir[f.Dir] = p
			packages = append(packages, p)
		}
		p.onlyTests = p.onlyTests && f.Test
	}
	for _, f := range t.Go {
		p := byDir[f.Dir]
		if doc := f.Syntax.Doc.Text(); doc != "" && (p.onlyTests || !f.Test) {
			p.docs = append(p.docs, doc)
		}
	}
	return packages
}

func (p *packageDoc) undocumented() []Problem {
	switch {
	case len(p.docs) == 0:
		return []Problem{{p.dir, 0, fmt.Sprintf(
			"package %s has no package comment; write doc.go with its job in one sentence, its invariants and its byte layouts", p.name)}}
	case len(p.docs) > 1:
		return []Problem{{p.dir, 0, fmt.Sprintf("package %s has %d package comments; keep the one in doc.go", p.name, len(p.docs))}}
	case p.name != "main" && !p.onlyTests && !strings.HasPrefix(p.docs[0], "Package "+p.name+" "):
		return []Problem{{p.dir, 0, fmt.Sprintf("the package comment does not begin with \"Package %s \"; begin it so, as godoc expects", p.name)}}
	}
	return nil
}

// bareName is an exported name without a comment.
type bareName struct {
	pos  token.Pos
	what string
}

func undocumented(decl ast.Decl) []bareName {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Doc.Text() != "" || !d.Name.IsExported() || !exportedReceiver(d) {
			return nil
		}
		if d.Recv != nil {
			return []bareName{{d.Pos(), "method " + receiverName(d) + "." + d.Name.Name}}
		}
		return []bareName{{d.Pos(), "func " + d.Name.Name}}
	case *ast.GenDecl:
		var bare []bareName
		for _, spec := range d.Specs {
			bare = append(bare, undocumentedSpec(d, spec)...)
		}
		return bare
	}
	return nil
}

func undocumentedSpec(d *ast.GenDecl, spec ast.Spec) []bareName {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		group := d.Doc.Text() != "" && !d.Lparen.IsValid()
		if s.Name.IsExported() && s.Doc.Text() == "" && !group {
			return []bareName{{s.Pos(), "type " + s.Name.Name}}
		}
	case *ast.ValueSpec:
		if d.Doc.Text() != "" || s.Doc.Text() != "" || s.Comment.Text() != "" {
			return nil
		}
		var bare []bareName
		for _, name := range s.Names {
			if name.IsExported() {
				bare = append(bare, bareName{name.Pos(), d.Tok.String() + " " + name.Name})
			}
		}
		return bare
	}
	return nil
}

func exportedReceiver(d *ast.FuncDecl) bool {
	return d.Recv == nil || ast.IsExported(receiverName(d))
}

// receiverName returns the name of a method's type without pointer and type
// parameters.
func receiverName(d *ast.FuncDecl) string {
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.ParenExpr:
			typ = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}
