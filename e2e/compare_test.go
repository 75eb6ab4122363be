package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
)

// canonical brings an answer into a form in which equal answers are equal: what
// has no order is sorted.
func canonical(t *testing.T, a answer, ordered bool) answer {
	t.Helper()
	slices.Sort(a.Warnings)
	slices.Sort(a.Infos)
	if ordered {
		return a
	}
	if object, ok := a.Data.(map[string]any); ok {
		if list, ok := object["result"].([]any); ok {
			sortJSON(t, list)
		}
	}
	if list, ok := a.Data.([]any); ok {
		sortJSON(t, list)
	}
	return a
}

// sortJSON sorts values by their JSON text, which orders the keys of objects.
func sortJSON(t *testing.T, list []any) {
	t.Helper()
	type keyed struct {
		key   string
		value any
	}
	sorted := make([]keyed, len(list))
	for i, v := range list {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		sorted[i] = keyed{string(text), v}
	}
	slices.SortFunc(sorted, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
	for i := range sorted {
		list[i] = sorted[i].value
	}
}

// isEmpty tells whether an answer says nothing.
func isEmpty(a answer) bool {
	switch data := a.Data.(type) {
	case []any:
		return len(data) == 0
	case map[string]any:
		list, isResult := data["result"].([]any)
		return len(data) == 0 || isResult && len(list) == 0
	case string:
		return data == ""
	}
	return a.Data == nil
}

// difference names the first place in which two parsed JSON values differ;
// empty means that they are equal. Numbers are compared by their text.
func difference(path string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		for _, key := range slices.Sorted(keysOf(w, g)) {
			if d := difference(path+"."+key, w[key], g[key]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok {
			break
		}
		for i := range min(len(w), len(g)) {
			if d := difference(fmt.Sprintf("%s[%d]", path, i), w[i], g[i]); d != "" {
				return d
			}
		}
		if len(w) != len(g) {
			return fmt.Sprintf("%s: %d elements, want %d", path, len(g), len(w))
		}
		return ""
	}
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return fmt.Sprintf("%s: got %.300v, want %.300v", path, got, want)
}

// keysOf goes over the keys of both maps; one that is in both may come twice.
func keysOf(a, b map[string]any) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for key := range a {
			if !yield(key) {
				return
			}
		}
		for key := range b {
			if _, both := a[key]; !both && !yield(key) {
				return
			}
		}
	}
}

func TestDifferenceFindsWhatDiffers(t *testing.T) {
	for _, c := range []struct{ want, got, difference string }{
		{`{"a":[1,{"b":"x"}]}`, `{"a":[1,{"b":"x"}]}`, ""},
		{`{"a":[1,{"b":"x"}]}`, `{"a":[1,{"b":"y"}]}`, "$.a[1].b: got y, want x"},
		{`{"a":1}`, `{}`, "$.a: got <nil>, want 1"},
		{`{}`, `{"a":1}`, "$.a: got 1, want <nil>"},
		{`[1,2]`, `[1]`, "$: 1 elements, want 2"},
		{`[1]`, `[1,2]`, "$: 2 elements, want 1"},
		{`[]`, `{}`, "$: got map[], want []"},
		{`"1"`, `1`, "$: got 1, want 1"},
	} {
		if got := difference("$", parseJSON(t, c.want), parseJSON(t, c.got)); got != c.difference {
			t.Errorf("difference of %s and %s: %q, want %q", c.want, c.got, got, c.difference)
		}
	}
}

func parseJSON(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
	return v
}
