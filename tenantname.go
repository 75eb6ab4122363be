package quorate

import "strings"

const (
	// AnonymousTenant is the tenant of every request while multi-tenancy is off.
	AnonymousTenant = "anonymous"
	// MaxTenantNameBytes is the longest tenant name accepted.
	MaxTenantNameBytes = 150
)

// ValidateTenantName checks a tenant's name: 1 to 150 bytes of
// [A-Za-z0-9!_.*'()-], not starting with "." (so that it can never be read as
// a path) nor with "__" (reserved for the system's own tenants). The error is
// of kind Invalid and names the rule. Names are validated after all decoding
// and are never decoded again.
func ValidateTenantName(name string) error {
	switch {
	case name == "":
		return Errorf(Invalid, "tenant name is empty")
	case len(name) > MaxTenantNameBytes:
		return Errorf(Invalid, "tenant name of %d bytes is over the limit of %d", len(name), MaxTenantNameBytes)
	case name[0] == '.':
		return Errorf(Invalid, "tenant name %q starts with a dot", name)
	case strings.HasPrefix(name, "__"):
		return Errorf(Invalid, "tenant name %q starts with \"__\", which is reserved", name)
	}
	for i := range len(name) {
		if !tenantNameByte(name[i]) {
			return Errorf(Invalid, "tenant name %q has the byte %q at offset %d; allowed are letters, digits and !_.*'()-", name, name[i], i)
		}
	}
	return nil
}

func tenantNameByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!-_.*'()", c) >= 0
}
