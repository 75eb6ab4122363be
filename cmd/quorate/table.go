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
// name and value. Without columns all fields are shown, in the order of their
// names.
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
	if len(columns) == 0 && len(rows) > 0 {
		for _, field := range slices.Sorted(maps.Keys(rows[0])) {
			columns = append(columns, column{field, field})
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
	for _, field := range slices.Sorted(maps.Keys(object)) {
		lines.WriteString(field + "\t" + cell(object[field]) + "\n")
	}
	return writeAligned(w, lines.String())
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
		text, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(text)
	default:
		return fmt.Sprint(v)
	}
}
