package tenancy

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quorate/quorate"
)

func TestFromRequest(t *testing.T) {
	on := Config{Enabled: true}
	for name, tc := range map[string]struct {
		config  Config
		headers []string
		want    string
		rule    string // part of the error
	}{
		"off ignores the header":           {Config{}, []string{"../x"}, quorate.AnonymousTenant, ""},
		"a plain name":                     {on, []string{"team-a"}, "team-a", ""},
		"every byte allowed":               {on, []string{"aZ9!-_.*'()"}, "aZ9!-_.*'()", ""},
		"the longest name":                 {on, []string{strings.Repeat("a", 150)}, strings.Repeat("a", 150), ""},
		"missing":                          {on, nil, "", "is missing"},
		"empty":                            {on, []string{""}, "", "is empty"},
		"given twice":                      {on, []string{"a", "b"}, "", "given 2 times"},
		"one byte too long":                {on, []string{strings.Repeat("a", 151)}, "", "151 bytes"},
		"a path upwards":                   {on, []string{"../../etc"}, "", "starts with a dot"},
		"a slash":                          {on, []string{"a/b"}, "", "'/'"},
		"percent encoding stays a percent": {on, []string{"%2e%2e"}, "", "'%'"},
		"a NUL byte":                       {on, []string{"a\x00b"}, "", `'\x00'`},
		"federation is not on":             {on, []string{"a|b"}, "", "'|'"},
		"reserved":                         {on, []string{"__system"}, "", "reserved"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			for _, h := range tc.headers {
				r.Header.Add("x-scope-orgid", h)
			}
			got, err := tc.config.FromRequest(r)
			if tc.rule == "" {
				if err != nil || got != tc.want {
					t.Fatalf("got %q, %v; want %q", got, err, tc.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.rule) || quorate.KindOf(err) != quorate.Invalid {
				t.Fatalf("got %q, %v; want an invalid-kind error about %q", got, err, tc.rule)
			}
		})
	}
}
