package failure

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// sentinelTexts returns the exported Err… of the Go files in a folder, with the texts they are made
// of.
func sentinelTexts(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok || general.Tok != token.VAR {
				continue
			}
			for _, spec := range general.Specs {
				for i, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						texts[name.Name] = newErrorText(
							t, name.Name, spec.(*ast.ValueSpec).Values[i],
						)
					}
				}
			}
		}
	}
	return texts
}

func newErrorText(t *testing.T, name string, value ast.Expr) string {
	t.Helper()
	call, ok := value.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		t.Fatalf("%s is not made by errors.New", name)
	}
	text, err := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEveryErrorOfTheHubHasARow(t *testing.T) {
	texts := sentinelTexts(t, filepath.Join("..", "..", "hub"))
	if len(texts) < 5 {
		t.Fatalf("found only %v", texts)
	}
	rows := map[string]bool{}
	for _, row := range statusTable {
		rows[row.err.Error()] = true
	}
	for name, text := range texts {
		if !rows[text] {
			t.Errorf("hub.%s (%q) has no row in the status table", name, text)
		}
	}
}

func TestEveryReasonOfTheAPIHasARow(t *testing.T) {
	rows := map[controlv1.ErrorReason]bool{}
	for _, row := range statusTable {
		rows[row.reason] = true
	}
	for number, name := range controlv1.ErrorReason_name {
		unsent := controlv1.ErrorReason(number) == controlv1.ErrorReason_ERROR_REASON_UNSPECIFIED
		if has := rows[controlv1.ErrorReason(number)]; has == unsent {
			t.Errorf("reason %s has a row: %v, want %v", name, has, !unsent)
		}
	}
}

func TestStatusesTurnBackIntoTheirErrors(t *testing.T) {
	first := map[string]error{}
	for _, row := range statusTable {
		key := row.code.String() + reasonName(row.reason)
		if first[key] == nil {
			first[key] = row.err
		}
		err := FromStatus(ToStatus(fmt.Errorf("somewhere: %w", row.err)))
		if !errors.Is(err, first[key]) {
			t.Errorf("%v came back as %v", row.err, err)
		}
	}
	field := &FieldError{ErrLimitExceeded, "target.users[3]", "must be at most 1024 bytes"}
	back, ok := errors.AsType[*FieldError](FromStatus(ToStatus(field)))
	if !ok || *back != *field {
		t.Errorf("%v came back as %v", field, back)
	}
}

func TestStatusesOfOthersStayWhatTheyAre(t *testing.T) {
	foreign, err := status.New(codes.NotFound, "x").WithDetails(
		&errdetails.ErrorInfo{Reason: "CONNECTION_NOT_FOUND", Domain: "elsewhere"},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		errors.New("x"), status.Error(codes.Unavailable, "x"),
		status.Error(codes.NotFound, "x"), foreign.Err(),
	} {
		if have := FromStatus(err); !errors.Is(have, err) || errors.Is(
			have, hub.ErrConnectionNotFound,
		) {
			t.Errorf("%v came back as %v", err, have)
		}
	}
}
