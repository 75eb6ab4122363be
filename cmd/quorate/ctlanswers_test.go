package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCtlSaysWhatWasDone(t *testing.T) {
	for command, tc := range map[string]struct{ data, prints string }{
		"nodes drain b":                    {`{"node":"b","state":"draining","replicas":12,"waiting":9}`, "b drains: 12 replicas to move; 9 of them wait for a node that can take them; "},
		"nodes undrain b":                  {`{"node":"b","state":"active","replicas":3}`, "b drains no more, and can be given replicas; it has 3\n"},
		"nodes remove b":                   {`{"node":"b","state":"removed"}`, "b is removed for ever\n"},
		"nodes drain b -o json":            {`{"replicas":12}`, `"replicas": 12`},
		"sets transfer 4 9":                {`{"set":4,"replica":9}`, "replica 9 leads set 4 now\n"},
		"sets transfer 4 8":                {`{"set":4,"replica":8,"already":true}`, "replica 8 leads set 4 already\n"},
		"controllers pause repair":         {`null`, "loop repair is paused"},
		"controllers resume repair":        {`null`, "loop repair goes on\n"},
		"controllers pause repair -o json": {`null`, ""},
		"controllers plan":                 {`[{"loop":"drain","error":"sets [3] wait"}]`, "drain  -    -        sets [3] wait\n"},
		"nodes list":                       {`[{"name":"a","heard":"unknown"}]`, "unknown"},
	} {
		_, printed, err := ctl(t, `{"status":"success","data":`+tc.data+`}`, strings.Fields(command)...)
		if err != nil || !strings.Contains(printed, tc.prints) || tc.prints == "" && printed != "" {
			t.Errorf("%s printed %q, %v; want %q", command, printed, err, tc.prints)
		}
	}
}

func TestCtlSaysThatNoLeaderIsKnown(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"status":"success","data":[{"name":"a","heard":"unknown"},{"name":"b","heard":"unknown"}]}`)
	}))
	defer server.Close()
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), []string{"ctl", "nodes", "list", "--url=" + server.URL}, &stdout, &stderr, exitInTest)
	if err != nil || strings.Count(stderr.String(), "no metadata leader is known") != 1 {
		t.Errorf("it says %q, %v", &stderr, err)
	}
}

func TestCtlJudgesChecksums(t *testing.T) {
	for name, tc := range map[string]struct {
		rows, prints string
		fails        string
	}{
		"equal":           {`{"applied_index":5,"checksum":"aa"},{"applied_index":5,"checksum":"aa"}`, "\nequal\n", ""},
		"at other places": {`{"applied_index":5,"checksum":"aa"},{"applied_index":6,"checksum":"aa"}`, "\nequal, though", ""},
		"at no one place": {`{"applied_index":5,"checksum":"aa"},{"applied_index":6,"checksum":"bb"}`, "bb", "at different applied indexes, 5 6, and hold different"},
		"sealed":          {`{"applied_index":5,"checksum":"aa","sealed":true}`, "\nequal by the record", ""},
		"different":       {`{"applied_index":5,"checksum":"aa"},{"applied_index":6,"checksum":"bb"},{"applied_index":5,"checksum":"bb"}`, "bb", "differ at the same applied index, 5"},
		"one is away":     {`{"applied_index":5,"checksum":"aa"},{"replica":7,"node":"c","error":"away"}`, "away", "7 on c could not be asked"},
	} {
		_, printed, err := ctl(t, `{"status":"success","data":[`+tc.rows+`]}`, "sets", "checksum", "3")
		if !strings.Contains(printed, tc.prints) || (err == nil) != (tc.fails == "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
			t.Errorf("%s: printed %q, %v", name, printed, err)
		}
	}
}

func TestCtlSaysHowToNameAnotherNode(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = run(t.Context(), []string{"ctl", "nodes", "list", "--url=http://" + address}, &out, &out, exitInTest)
	if err == nil || !strings.Contains(err.Error(), "--url") || !strings.Contains(err.Error(), "9252") {
		t.Errorf("got %v", err)
	}
}
