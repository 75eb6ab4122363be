package main

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/quorate/quorate/internal/interchange"
)

// endpointFlags say which server a tool speaks to.
type endpointFlags struct {
	URL          *url.URL `name:"url" default:"http://127.0.0.1:9240" placeholder:"URL" help:"The server (default ${default}). A user and password in it are sent as basic authentication."`
	Tenant       string   `name:"tenant" placeholder:"NAME" help:"The tenant to speak for. Needed with multi-tenancy, ignored without."`
	TenantHeader string   `name:"tenant-header" default:"X-Scope-OrgID" placeholder:"HEADER" help:"The header that carries the tenant (default ${default})."`
}

func (f *endpointFlags) endpoint() interchange.Endpoint {
	return interchange.Endpoint{URL: f.URL, Tenant: f.Tenant, TenantHeader: f.TenantHeader}
}

// instant is a time given as RFC 3339 or in seconds since 1970.
type instant struct{ ms int64 }

// UnmarshalText parses what the user wrote.
func (t *instant) UnmarshalText(text []byte) error {
	if seconds, err := strconv.ParseFloat(string(text), 64); err == nil {
		if ms := seconds * 1000; ms > -1<<53 && ms < 1<<53 {
			t.ms = int64(math.Round(ms))
			return nil
		}
		return fmt.Errorf("%s is no time", text)
	}
	at, err := time.Parse(time.RFC3339, string(text))
	t.ms = at.UnixMilli()
	return err
}

// timeOf is an instant in ms, 0 if it was not given.
func timeOf(t *instant) int64 {
	if t == nil {
		return 0
	}
	return t.ms
}
