package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// files are a node's three.
type files struct{ cert, key, ca string }

// issue writes a certificate for a DNS name, or for a URI if it is one, with
// its key and the authorities to trust.
func (a *authority) issue(t *testing.T, dir, name string, trusted ...*authority) files {
	t.Helper()
	return a.issueTemplate(t, dir, named(t, name), trusted...)
}

func named(t *testing.T, name string) x509.Certificate {
	t.Helper()
	cert := x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if uri, err := url.Parse(name); err == nil && uri.Scheme != "" {
		cert.URIs = []*url.URL{uri}
	} else {
		cert.DNSNames = []string{name}
	}
	return cert
}

func (a *authority) issueTemplate(t *testing.T, dir string, template x509.Certificate, trusted ...*authority) files {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, &template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var ca []byte
	for _, authority := range append([]*authority{a}, trusted...) {
		ca = append(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.cert.Raw})...)
	}
	f := files{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")}
	for path, data := range map[string][]byte{
		f.cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		f.key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		f.ca:   ca,
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f files) load(t *testing.T) *TLS {
	t.Helper()
	m, err := LoadTLS(f.cert, f.key, f.ca)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func with(m *TLS) func(*Config) { return func(c *Config) { c.TLS = m } }

func TestNodesWithCertificatesOfTheirNames(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	a := newAtlas()
	n1 := answering(a.open(t, "n1", with(ca.issue(t, t.TempDir(), "n1").load(t))))
	spiffe := "spiffe://quorate/" + testCluster.String() + "/node/n2"
	n2 := answering(a.open(t, "n2", with(ca.issue(t, t.TempDir(), spiffe).load(t))))
	for _, way := range []struct {
		from *Port
		to   quorate.NodeID
	}{{n1, nodeID("n2")}, {n2, nodeID("n1")}} {
		for what, err := range tryAll(t, way.from, way.to) {
			if err != nil {
				t.Errorf("%s to %s: %v", what, way.to.Name, err)
			}
		}
	}
	if answer, err := n1.CallAddress(t.Context(), n2.Address(), "hello", nil); err != nil || string(answer) != "welcome" {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestNodesWithoutTheRightCertificateAreRefused(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	day := 24 * time.Hour
	expired := named(t, "n2")
	expired.NotBefore, expired.NotAfter = time.Now().Add(-2*day), time.Now().Add(-day)
	servers := named(t, "n2")
	servers.ExtKeyUsage = servers.ExtKeyUsage[:1]
	for _, test := range []struct {
		name string
		tls  func(t *testing.T) *TLS
	}{
		{"plaintext", func(*testing.T) *TLS { return nil }},
		{"another authority's", func(t *testing.T) *TLS { return other.issue(t, t.TempDir(), "n2", ca).load(t) }},
		{"for another name", func(t *testing.T) *TLS { return ca.issue(t, t.TempDir(), "n3").load(t) }},
		{"for another cluster", func(t *testing.T) *TLS {
			return ca.issue(t, t.TempDir(), "spiffe://quorate/"+quorate.ClusterID{0xbb}.String()+"/node/n2").load(t)
		}},
		{"of another sort", func(t *testing.T) *TLS { return ca.issue(t, t.TempDir(), "spiffe://other/c/node/n2").load(t) }},
		{"that has expired", func(t *testing.T) *TLS { return ca.issueTemplate(t, t.TempDir(), expired).load(t) }},
		{"for servers alone", func(t *testing.T) *TLS { return ca.issueTemplate(t, t.TempDir(), servers).load(t) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			a := newAtlas()
			good := answering(a.open(t, "n1", with(ca.issue(t, t.TempDir(), "n1", other).load(t))))
			if test.name == "another authority's" {
				good = answering(a.open(t, "n1", with(ca.issue(t, t.TempDir(), "n1").load(t))))
			}
			bad := answering(a.open(t, "n2", with(test.tls(t))))
			for what, err := range tryAll(t, bad, nodeID("n1")) {
				wantErr(t, err, quorate.Unavailable, nil)
				if err != nil && !notDoneOf(err) && what != "message" {
					t.Logf("%s: %v", what, err)
				}
			}
			if test.name == "for servers alone" {
				return
			}
			for _, err := range tryAll(t, good, nodeID("n2")) {
				wantErr(t, err, quorate.Unavailable, nil)
			}
		})
	}
}

func TestAClientWithoutACertificateIsRefused(t *testing.T) {
	ca := newAuthority(t)
	n1 := answering(newAtlas().open(t, "n1", with(ca.issue(t, t.TempDir(), "n1").load(t))))
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, cfg := range []*tls.Config{
		{RootCAs: roots, ServerName: "n1", NextProtos: []string{"h2"}},
		{RootCAs: roots, ServerName: "n1", NextProtos: []string{"h2"}, MaxVersion: tls.VersionTLS12},
	} {
		conn, err := (&tls.Dialer{Config: cfg}).DialContext(t.Context(), "tcp", n1.Address())
		if err == nil {
			// TLS 1.3 tells a client of its refusal at the first read.
			if err = conn.SetDeadline(time.Now().Add(testwait.Deadline)); err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			conn.Close()
		}
		if err == nil {
			t.Error("want an error, got none")
		}
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // as the net package gives it
			t.Errorf("the connection was left open: %v", err)
		}
	}
}

func TestTheFilesAreReadAgainWhenTheyChange(t *testing.T) {
	old, renewed := newAuthority(t), newAuthority(t)
	a := newAtlas()
	dir1, dir2 := t.TempDir(), t.TempDir()
	m1, m2 := old.issue(t, dir1, "n1").load(t), old.issue(t, dir2, "n2").load(t)
	clock := time.Now()
	m1.now = func() time.Time { clock = clock.Add(recheckEvery); return clock }
	m2.now = m1.now
	answering(a.open(t, "n1", with(m1)))
	open := func() *Port { return answering(a.open(t, "n2", with(m2))) }
	n2 := open()
	connect(t, n2, nodeID("n1"))

	// Half of the files: what was loaded stays in use.
	if err := os.WriteFile(filepath.Join(dir2, "key.pem"), []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n2.Close(); err != nil {
		t.Fatal(err)
	}
	n2 = open()
	connect(t, n2, nodeID("n1"))
	if err := n2.Close(); err != nil {
		t.Fatal(err)
	}

	renewed.issue(t, dir2, "n2", old)
	n2 = open()
	_, err := n2.Call(t.Context(), nodeID("n1"), "ping", nil)
	wantErr(t, err, quorate.Unavailable, nil) // n1 does not know the new authority yet
	renewed.issue(t, dir1, "n1", old)
	connect(t, n2, nodeID("n1"))
}

func TestTLSFilesThatCannotBe(t *testing.T) {
	ca := newAuthority(t)
	good := ca.issue(t, t.TempDir(), "n1")
	other := ca.issue(t, t.TempDir(), "n1")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]files{
		"no certificate": {"missing.pem", good.key, good.ca},
		"another's key":  {good.cert, other.key, good.ca},
		"no authority":   {good.cert, good.key, empty},
	} {
		if _, err := LoadTLS(f.cert, f.key, f.ca); err == nil {
			t.Errorf("%s: want an error, got none", name)
		}
	}
	m := good.load(t)
	if err := m.Name("n1"); err != nil {
		t.Error(err)
	}
	if err := m.Name("n2"); err == nil {
		t.Error("want an error for another node's certificate, got none")
	}
}
