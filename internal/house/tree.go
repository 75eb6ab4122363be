package house

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is one breach of one rule.
type Problem struct {
	// Path is the file or directory at fault, slash-separated from the root.
	Path string
	// Line is 0 where the whole of Path is at fault.
	Line int
	// What says what is wrong and what to write instead.
	What string
}

// String prints the problem as "path:line: what".
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Path + ": " + p.What
	}
	return fmt.Sprintf("%s:%d: %s", p.Path, p.Line, p.What)
}

// GoFile is one parsed Go file.
type GoFile struct {
	// Path is slash-separated from the tree's root; Dir is its directory, "."
	// for the root.
	Path, Dir string
	// Test tells whether only `go test` compiles the file.
	Test bool
	// Generated tells whether a program wrote the file.
	Generated bool
	// Lines is the number of the file's lines.
	Lines int
	// Syntax is the parsed file with its comments.
	Syntax *ast.File
}

// TextFile is one file of any kind that is valid UTF-8.
type TextFile struct {
	Path string
	Data []byte
}

// Tree is the source of the project: the root module and the modules nested
// in it.
type Tree struct {
	// Module is the root module's path, the prefix of all project imports.
	Module string
	// Dirs are the directories, "." included.
	Dirs map[string]bool
	// Go and Text are ordered by path; every Go file is a text file too.
	Go   []GoFile
	Text []TextFile

	positions *token.FileSet
}

// maxTextBytes bounds what counts as text that a person wrote.
const maxTextBytes = 1 << 20

// Load reads and parses a tree. It leaves out what is not source: hidden
// directories other than .ci, testdata, and data and bin of the root. A Go file
// that does not parse is an error.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{Dirs: map[string]bool{}, positions: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && notSource(name):
			return fs.SkipDir
		case d.IsDir():
			t.Dirs[name] = true
			return nil
		case !d.Type().IsRegular():
			return nil
		}
		return t.add(fsys, name)
	})
	if err != nil {
		return nil, fmt.Errorf("read the source tree: %w", err)
	}
	if t.Module == "" {
		return nil, fmt.Errorf("read the source tree: go.mod of the root names no module")
	}
	byPath := func(a, b TextFile) int { return cmp.Compare(a.Path, b.Path) }
	slices.SortFunc(t.Text, byPath)
	slices.SortFunc(t.Go, func(a, b GoFile) int { return cmp.Compare(a.Path, b.Path) })
	return t, nil
}

func notSource(dir string) bool {
	base := path.Base(dir)
	switch {
	case dir == "." || base == ".ci":
		return false
	case dir == "data" || dir == "bin" || base == "testdata":
		return true
	}
	return strings.HasPrefix(base, ".")
}

func (t *Tree) add(fsys fs.FS, name string) error {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	if len(data) <= maxTextBytes && utf8.Valid(data) && !bytes.ContainsRune(data, 0) {
		t.Text = append(t.Text, TextFile{Path: name, Data: data})
	}
	if name == "go.mod" {
		t.Module = moduleOf(data)
	}
	if path.Ext(name) != ".go" {
		return nil
	}
	syntax, err := parser.ParseFile(t.positions, name, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.Go = append(t.Go, GoFile{
		Path:      name,
		Dir:       path.Dir(name),
		Test:      strings.HasSuffix(name, "_test.go"),
		Generated: ast.IsGenerated(syntax),
		Lines:     bytes.Count(data, []byte("\n")),
		Syntax:    syntax,
	})
	return nil
}

func moduleOf(gomod []byte) string {
	for line := range strings.Lines(string(gomod)) {
		if rest, ok := strings.CutPrefix(line, "module "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// text returns the contents of a file by its path.
func (t *Tree) text(name string) ([]byte, bool) {
	for _, f := range t.Text {
		if f.Path == name {
			return f.Data, true
		}
	}
	return nil, false
}

func (t *Tree) line(pos token.Pos) int { return t.positions.Position(pos).Line }
