package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// room is a package, a folder of protos, scripts or configurations, or a page: the measures and the
// aims are for each room.
type room struct {
	name  string  // its folder, or the path of the page
	code  []*file // Go files that are not tests
	tests []*file
	texts []*file // all but Go; their ast is nil
}

// file is a source file.
type file struct {
	path    string
	lines   []string
	fileSet *token.FileSet
	ast     *ast.File
}

// function is a function or method that a room declares outside its tests.
type function struct {
	decl     *ast.FuncDecl
	receiver string // the name of its type; "" for a function
	file     *file
}

// scripts are the files with comments whose names have no extension.
var scripts = []string{".ci/run", "Dockerfile", "Makefile", "test/lint/imports"}

// readRooms reads all rooms below root, sorted by name. Generated code is left out.
func readRooms(root string) ([]*room, error) {
	rooms := map[string]*room{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if path != root && isForeign(entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		name := filepath.ToSlash(filepath.Dir(path))
		switch filepath.Ext(path) {
		case ".go", ".proto", ".yaml", ".yml", ".mjs", ".js":
		case ".md":
			name = filepath.ToSlash(path)
		default:
			if !slices.Contains(scripts, filepath.ToSlash(path)) {
				return nil
			}
		}
		f, err := readFile(path)
		if err != nil || f.isGenerated() {
			return err
		}
		if rooms[name] == nil {
			rooms[name] = &room{name: name}
		}
		rooms[name].addFile(f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(rooms), func(a, b *room) int {
		return strings.Compare(a.name, b.name)
	}), nil
}

// isForeign reports whether a folder holds no source of the project's own.
func isForeign(name string) bool {
	foreign := []string{"gen", "bin", "testdata", "node_modules", "third_party"}
	return strings.HasPrefix(name, ".") && name != ".ci" || slices.Contains(foreign, name)
}

func readFile(path string) (*file, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseFile(filepath.ToSlash(path), string(text))
}

// parseFile parses text as Go if path says so.
func parseFile(path, text string) (*file, error) {
	f := &file{path: path, lines: strings.Split(text, "\n"), fileSet: token.NewFileSet()}
	if !strings.HasSuffix(path, ".go") {
		return f, nil
	}
	var err error
	mode := parser.ParseComments | parser.SkipObjectResolution
	f.ast, err = parser.ParseFile(f.fileSet, path, text, mode)
	return f, err
}

func (f *file) isGenerated() bool { return f.ast != nil && ast.IsGenerated(f.ast) }

func (r *room) addFile(f *file) {
	switch {
	case f.ast == nil:
		r.texts = append(r.texts, f)
	case strings.HasSuffix(f.path, "_test.go"):
		r.tests = append(r.tests, f)
	default:
		r.code = append(r.code, f)
	}
}
