package config

import (
	"slices"
	"strings"
	"testing"
)

func TestSplitLeavesSpacesAndNothingOut(t *testing.T) {
	if got := Split(" a:1, b:2 ,,c:3"); !slices.Equal(got, []string{"a:1", "b:2", "c:3"}) {
		t.Errorf("got %q", got)
	}
	if got := Split(""); len(got) != 0 {
		t.Errorf("an empty list has %q", got)
	}
}

func TestSettingsOfAClusterThatCannotStand(t *testing.T) {
	for name, tc := range map[string]struct{ content, says string }{
		"an address without a port":      {"cluster: {join: \"a:1,b\"}", `cluster.join: "b" is not host:port`},
		"a role that is none":            {"cluster: {roles: \"meta,cook\"}", `"cook" is none of meta, data and gateway`},
		"no role":                        {"cluster: {roles: \",\"}", "names no role"},
		"expecting nobody in particular": {"cluster: {expect: 3}", "needs cluster.join"},
		"a certificate without a key":    {"peer: {cert_file: a.pem, ca_file: ca.pem}", "belong together"},
		"a port that others reach":       {"peer: {listen: \"0.0.0.0:9241\"}", "can be reached by others"},
		"one port for two listeners":     {"peer: {listen: \"127.0.0.1:9242\"}", "is admin.listen, too"},
		"an even more hopeless replica":  {"buckets: {replicas: 0}", "outside 1 to 9"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Load(write(t, tc.content)); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want an error that says %q", err, tc.says)
			}
		})
	}
}

func TestSettingsOfACluster(t *testing.T) {
	got, err := Load(write(t, `
peer: {listen: "10.0.0.1:9241", allow_insecure: true}
cluster: {join: "10.0.0.1:9241,10.0.0.2:9241", expect: 2, zone: a, roles: "data"}
buckets: {replicas: 3}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Cluster.Expect != 2 || got.Cluster.Zone != "a" || got.Cluster.Roles != "data" || got.Buckets.Replicas != 3 {
		t.Errorf("got %+v, %+v", got.Cluster, got.Buckets)
	}
}
