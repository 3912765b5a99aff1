package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// countWords counts the words of a name in camel case. An abbreviation in capitals counts once.
func countWords(name string) int {
	words, letters := 1, []rune(name)
	for i := 1; i < len(letters); i++ {
		beforeLower := i+1 < len(letters) && unicode.IsLower(letters[i+1])
		if unicode.IsUpper(letters[i]) && (!unicode.IsUpper(letters[i-1]) || beforeLower) {
			words++
		}
	}
	return words
}

func (r *room) listFunctions() []function {
	var all []function
	for _, f := range r.code {
		for _, d := range f.ast.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Name.Name != "_" {
				all = append(all, function{decl: d, receiver: receiverType(d), file: f})
			}
		}
	}
	return all
}

// receiverType returns the name of the type that d is a method of, or "".
func receiverType(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	name := ""
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return name == ""
	})
	return name
}

func (f function) atName() string { return f.file.atNode(f.decl.Name) }

// atNode returns the position of n, as file:line.
func (f *file) atNode(n ast.Node) string { return f.atLine(f.lineOf(n.Pos())) }

func (f *file) atLine(line int) string { return fmt.Sprintf("%s:%d", f.path, line) }

func (f *file) lineOf(p token.Pos) int { return f.fileSet.Position(p).Line }

// measureOneWord counts functions and methods whose unexported name is a single word. It leaves out
// exported names: readers see them with the package's name, and many are given by interfaces.
func measureOneWord(r *room) (got reading) {
	for _, f := range r.listFunctions() {
		name := f.decl.Name.Name
		if f.decl.Name.IsExported() || f.receiver == "" && (name == "main" || name == "init") {
			continue
		}
		got.of++
		got.words += countWords(name)
		if countWords(name) == 1 {
			got.addOffence(f.atName(), name)
		}
	}
	return got
}

// measureWords counts the words that the names of measureOneWord lack to a mean of two.
func measureWords(r *room) reading {
	got := measureOneWord(r)
	got.count = 2*got.of - got.words
	return got
}

// measureExported counts the exported names that a package declares; methods are their type's.
func measureExported(r *room) (got reading) {
	add := func(f *file, id *ast.Ident) {
		if id.IsExported() {
			got.addOffence(f.atNode(id), id.Name)
		}
	}
	for _, f := range r.code {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					add(f, d.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						add(f, s.Name)
					case *ast.ValueSpec:
						for _, id := range s.Names {
							add(f, id)
						}
					}
				}
			}
		}
	}
	return got
}

// measureCode counts lines that are neither blank nor only a comment.
func measureCode(r *room) (got reading) {
	for _, f := range r.code {
		for _, line := range f.lines {
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "//") {
				got.count++
			}
		}
	}
	return got
}

// measureMethods counts the methods of the type that has the most.
func measureMethods(r *room) (got reading) {
	methods := map[string][]offence{}
	files := map[string]map[string]bool{}
	for _, f := range r.listFunctions() {
		if f.receiver == "" {
			continue
		}
		name := f.receiver + "." + f.decl.Name.Name
		methods[f.receiver] = append(methods[f.receiver], offence{f.atName(), name})
		if files[f.receiver] == nil {
			files[f.receiver] = map[string]bool{}
		}
		files[f.receiver][f.file.path] = true
	}
	names := slices.SortedFunc(maps.Keys(methods), func(a, b string) int {
		return cmp.Or(len(methods[b])-len(methods[a]), strings.Compare(a, b))
	})
	if len(names) == 0 {
		return got
	}
	most := names[0]
	got.offences, got.count = methods[most], len(methods[most])
	got.note = fmt.Sprintf("%s.%s, over %d files", r.name, most, len(files[most]))
	return got
}

// measureUndocumented counts exported fields of exported structs that have no comment.
func measureUndocumented(r *room) (got reading) {
	for _, f := range r.code {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			fields, ok := spec.Type.(*ast.StructType)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			for _, field := range fields.Fields.List {
				for _, id := range field.Names {
					if !id.IsExported() {
						continue
					}
					got.of++
					if field.Doc == nil && field.Comment == nil {
						got.addOffence(f.atNode(id), spec.Name.Name+"."+id.Name)
					}
				}
			}
			return true
		})
	}
	return got
}
