package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// column is one column of a table: its title, and the field of a row that it
// shows.
type column struct{ title, field string }

// printJSON prints data as it is, indented.
func printJSON(w io.Writer, data json.RawMessage) error {
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, out.String())
	return err
}

// printTable prints a list of objects as a table, and one object as lines of
// name and value, after which come the lists of objects in it, each as a table.
// Without columns all fields are shown, in the order of their names.
func printTable(w io.Writer, data json.RawMessage, columns []column) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // numbers of sets are larger than floats can tell apart
	if len(data) == 0 || data[0] != '[' {
		var object map[string]any
		if err := decoder.Decode(&object); err != nil {
			return err
		}
		return printObject(w, object)
	}
	var rows []map[string]any
	if err := decoder.Decode(&rows); err != nil {
		return err
	}
	return printRows(w, rows, columns)
}

func printRows(w io.Writer, rows []map[string]any, columns []column) error {
	if len(columns) == 0 {
		fields := map[string]bool{}
		for _, row := range rows {
			for field := range row {
				fields[field] = true
			}
		}
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			columns = append(columns, column{strings.ReplaceAll(field, "_", " "), field})
		}
	}
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = strings.ToUpper(c.title)
	}
	var lines strings.Builder
	lines.WriteString(strings.Join(titles, "\t") + "\n")
	for _, row := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = cell(row[c.field])
		}
		lines.WriteString(strings.Join(cells, "\t") + "\n")
	}
	return writeAligned(w, lines.String())
}

func printObject(w io.Writer, object map[string]any) error {
	var lines strings.Builder
	var tables []string
	for _, field := range slices.Sorted(maps.Keys(object)) {
		if _, ok := objectsOf(object[field]); ok {
			tables = append(tables, field)
			continue
		}
		lines.WriteString(field + "\t" + cell(object[field]) + "\n")
	}
	if err := writeAligned(w, lines.String()); err != nil {
		return err
	}
	for _, field := range tables {
		rows, _ := objectsOf(object[field])
		if _, err := fmt.Fprintf(w, "\n%s:\n", field); err != nil {
			return err
		}
		if err := printRows(w, rows, nil); err != nil {
			return err
		}
	}
	return nil
}

// objectsOf returns a list of objects, and whether the value is one that has any.
func objectsOf(value any) ([]map[string]any, bool) {
	list, ok := value.([]any)
	if !ok || len(list) == 0 {
		return nil, false
	}
	rows := make([]map[string]any, len(list))
	for i, element := range list {
		if rows[i], ok = element.(map[string]any); !ok {
			return nil, false
		}
	}
	return rows, true
}

// writeAligned writes lines of cells, separated by tabs, as columns.
func writeAligned(w io.Writer, lines string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(t, lines); err != nil {
		return err
	}
	return t.Flush()
}

// cell is a value in a table: lists on one line, nothing as a dash.
func cell(value any) string {
	switch v := value.(type) {
	case nil:
		return "-"
	case string:
		if v == "" {
			return "-"
		}
		return v
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			parts[i] = cell(element)
		}
		if len(parts) == 0 {
			return "-"
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, field := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, field+"="+cell(v[field]))
		}
		return strings.Join(parts, " ")
	default:
		return fmt.Sprint(v)
	}
}
