package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// ctl runs a command against a server that answers everything alike, and
// returns what it asked and printed.
func ctl(t *testing.T, answer string, args ...string) (asked, printed string, err error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.String()
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	var stdout, stderr bytes.Buffer
	err = run(t.Context(), append(append([]string{"ctl"}, args...), "--url="+server.URL), &stdout, &stderr, exitInTest)
	return asked, stdout.String(), err
}

func TestCtlAsksAndPrints(t *testing.T) {
	for command, tc := range map[string]struct{ answer, asks, prints string }{
		"nodes list": {
			`{"status":"success","data":[{"name":"a","state":"active","replicas":3,"leads":1},{"name":"b","state":"draining"}]}`,
			"GET /api/v1/admin/nodes", "a     active    -     -      -        -     3         1",
		},
		"nodes list -o json": {`{"status":"success","data":[{"name":"a"}]}`, "GET /api/v1/admin/nodes", `"name": "a"`},
		"nodes drain b":      {`{"status":"success"}`, "POST /api/v1/admin/nodes/drain?node=b", ""},
		"buckets cut":        {`{"status":"success","data":{"at":"noon"}}`, "POST /api/v1/admin/cut?policy=default", "at  noon"},
		"policies alter default --retention=90d --late-window=1h": {
			`{"status":"success","data":{"name":"default","retention":"90d"}}`, "POST /api/v1/admin/policies/alter?late_window=1h&policy=default&retention=90d", "90d",
		},
		"sets list --bucket=7": {`{"status":"success","data":[{"set":18446744073709551615}]}`, "GET /api/v1/admin/cluster/sets?bucket=7", "18446744073709551615"},
		"sets transfer 4 9":    {`{"status":"success"}`, "POST /api/v1/admin/sets/transfer?replica=9&set=4", ""},
		"sets move 4 9 c":      {`{"status":"success"}`, "POST /api/v1/admin/sets/members?add=c&remove=9&set=4", ""},
		"sets describe 4": {
			`{"status":"success","data":{"set":4,"intent":{"id":7,"kind":"seal"},"replicas":[{"replica":9,"leader":true},{"replica":10,"broken":"disk"}]}}`,
			"GET /api/v1/admin/describe/set?set=4", "intent  id=7 kind=seal\nset     4\n\nreplicas:\nBROKEN  LEADER  REPLICA\n-       true    9\ndisk    -       10\n",
		},
		"nodes describe b":       {`{"status":"success","data":{"name":"b"}}`, "GET /api/v1/admin/describe/node?node=b", "name  b"},
		"tenants describe x":     {`{"status":"success","data":{"name":"x"}}`, "GET /api/v1/admin/describe/tenant?tenant=x", "name  x"},
		"policies describe":      {`{"status":"success","data":{"name":"default"}}`, "GET /api/v1/admin/describe/policy?policy=default", "name  default"},
		"buckets describe 3":     {`{"status":"success","data":{"bucket":3}}`, "GET /api/v1/admin/describe/bucket?bucket=3", "bucket  3"},
		"replicas list --broken": {`{"status":"success","data":[{"set":4,"replica":9,"lag":0}]}`, "GET /api/v1/admin/replicas?broken=true", "4    9        -"},
		"sets repair 4":          {`{"status":"success","data":{"added":11}}`, "POST /api/v1/admin/sets/repair?set=4", "added  11"},
		"sets repair 4 9 --node=c": {
			`{"status":"success","data":{"added":11}}`, "POST /api/v1/admin/sets/repair?node=c&replica=9&set=4", "added  11",
		},
		"controllers pause repair": {`{"status":"success"}`, "POST /api/v1/admin/controllers/pause?loop=repair", ""},
	} {
		asked, printed, err := ctl(t, tc.answer, strings.Fields(command)...)
		if err != nil || asked != tc.asks || !strings.Contains(printed, tc.prints) {
			t.Errorf("%s: asked %q, printed %q, %v; want %q and %q", command, asked, printed, err, tc.asks, tc.prints)
		}
	}
}

func TestCtlMetaNeedsToBeSure(t *testing.T) {
	dir, id := t.TempDir(), strings.Repeat("ab", 16)
	for command, want := range map[string]string{
		"meta restore --data.dir=" + dir + " --cluster=" + id:                     "say --yes",
		"meta restore --data.dir=" + dir + " --cluster=zz --yes":                  "--cluster",
		"meta restore --data.dir=" + dir + " --cluster=" + id + " --yes":          "is no node's",
		"meta restore /nowhere --data.dir=" + dir + " --cluster=" + id + " --yes": "/nowhere",
		"meta show --from-dir=" + dir:                                             "identity",
		"meta show /nowhere --from-dir=" + dir:                                    "two sources",
	} {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"ctl"}, strings.Fields(command)...), &out, &out, exitInTest)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", command, err, want)
		}
	}
	if _, _, err := ctl(t, `{"status":"error","error":"no leader"}`, "meta", "show"); err == nil || err.Error() != "no leader" {
		t.Errorf("got %v", err)
	}
	if _, _, err := ctl(t, `not a dump`, "meta", "dump", dir+"/file"); err == nil || !strings.Contains(err.Error(), "not a dump") {
		t.Errorf("got %v", err)
	}
}

func TestCtlSaysWhatTheServerSays(t *testing.T) {
	if _, _, err := ctl(t, `{"status":"error","errorType":"not_found","error":"the cluster has no node \"z\""}`, "nodes", "drain", "z"); err == nil || err.Error() != `the cluster has no node "z"` {
		t.Errorf("got %v", err)
	}
	if _, _, err := ctl(t, `<html>`, "nodes", "list"); err == nil || !strings.Contains(err.Error(), "not as a node of Quorate") {
		t.Errorf("got %v", err)
	}
	if _, _, err := ctl(t, ``, "nodes", "explode"); err == nil || exitCode(err) != exitUsage {
		t.Errorf("got %v", err)
	}
}
