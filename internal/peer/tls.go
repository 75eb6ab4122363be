package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate"
)

// TLS is what a node shows and demands on every connection. Its files are read
// again when they have changed, for the connections that come after. It is safe
// for concurrent use.
type TLS struct {
	certFile, keyFile, caFile string
	// now tells when to look at the files again.
	now func() time.Time

	mu      sync.Mutex // guards what follows
	loaded  material
	stamps  [3]stamp
	checked time.Time
}

// material is what the files hold.
type material struct {
	certificate *tls.Certificate
	authorities *x509.CertPool
}

// stamp tells one content of a file from another.
type stamp struct {
	modified time.Time
	bytes    int64
}

// recheckEvery bounds how often the files are looked at.
const recheckEvery = time.Second

// LoadTLS reads a node's certificate and key, and the certificates of the
// authorities that sign the nodes' certificates, all PEM. The certificate names
// the node by a subject alternative name: the DNS name that is the node's name,
// or the URI spiffe://quorate/<cluster>/node/<name>. It is for both sides of
// a connection. The chain to the authorities is all else that is asked for, so
// they should sign nothing but nodes.
func LoadTLS(certFile, keyFile, caFile string) (*TLS, error) {
	t := &TLS{certFile: certFile, keyFile: keyFile, caFile: caFile, now: time.Now}
	stamps, err := t.stamp()
	if err != nil {
		return nil, fmt.Errorf("tls between nodes: %w", err)
	}
	if t.loaded, err = t.load(); err != nil {
		return nil, fmt.Errorf("tls between nodes: %w", err)
	}
	t.stamps, t.checked = stamps, t.now()
	return t, nil
}

func (t *TLS) stamp() (stamps [3]stamp, err error) {
	for i, file := range []string{t.certFile, t.keyFile, t.caFile} {
		info, err := os.Stat(file)
		if err != nil {
			return stamps, err
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

func (t *TLS) load() (material, error) {
	certificate, err := tls.LoadX509KeyPair(t.certFile, t.keyFile)
	if err != nil {
		return material{}, err
	}
	pem, err := os.ReadFile(t.caFile)
	if err != nil {
		return material{}, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return material{}, fmt.Errorf("%s has no certificate", t.caFile)
	}
	return material{&certificate, pool}, nil
}

// current returns what the files hold. While they are being replaced, and may
// not fit together, it is what they held before.
func (t *TLS) current() material {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if now.Sub(t.checked) < recheckEvery {
		return t.loaded
	}
	t.checked = now
	stamps, err := t.stamp()
	if err != nil || stamps == t.stamps {
		return t.loaded
	}
	if m, err := t.load(); err == nil {
		t.loaded, t.stamps = m, stamps
	}
	return t.loaded
}

// Name checks that the certificate is one for a node of that name.
func (t *TLS) Name(name string) error {
	m := t.current()
	cert, err := x509.ParseCertificate(m.certificate.Certificate[0])
	if err != nil {
		return fmt.Errorf("tls between nodes: %w", err)
	}
	if err := checkName(cert, name, quorate.ClusterID{}); err != nil {
		return fmt.Errorf("tls between nodes: %s: %w", t.certFile, err)
	}
	return nil
}

// verify checks the other side's chain, which the tls package leaves to us:
// nodes are known by name, not by the host they run on.
func (t *TLS) verify(state tls.ConnectionState, usage x509.ExtKeyUsage) (*x509.Certificate, error) {
	if len(state.PeerCertificates) == 0 {
		return nil, errors.New("no certificate was shown")
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	cert := state.PeerCertificates[0]
	_, err := cert.Verify(x509.VerifyOptions{
		Roots:         t.current().authorities,
		Intermediates: between,
		KeyUsages:     []x509.ExtKeyUsage{usage},
	})
	return cert, err
}

// checkName checks that a certificate is that of the node of a name. The
// cluster of a URI is compared once this node has one.
func checkName(cert *x509.Certificate, name string, cluster quorate.ClusterID) error {
	if slices.Contains(cert.DNSNames, name) {
		return nil
	}
	for _, uri := range cert.URIs {
		if uri.Scheme != "spiffe" || uri.Host != "quorate" {
			continue
		}
		of, node, ok := strings.Cut(strings.TrimPrefix(uri.Path, "/"), "/node/")
		if ok && node == name && (cluster.IsZero() || of == cluster.String()) {
			return nil
		}
	}
	return fmt.Errorf("the certificate is not one of node %q: it has DNS names %q and URIs %q", name, cert.DNSNames, cert.URIs)
}

func serverCredentials(t *TLS) credentials.TransportCredentials {
	if t == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return t.current().certificate, nil
		},
		// Any certificate is let through here and verified below, against the
		// authorities of the moment. Whose it has to be stands in each request.
		ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := t.verify(state, x509.ExtKeyUsageClientAuth)
			return err
		},
		// A resumed session would be of the authorities of the past.
		SessionTicketsDisabled: true,
	})
}

// clientCredentials are for a connection to the node of a name, or to whichever
// node answers when the name is empty.
func clientCredentials(t *TLS, name string, cluster func() quorate.ClusterID) credentials.TransportCredentials {
	if t == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return t.current().certificate, nil
		},
		InsecureSkipVerify: true, // VerifyConnection does it, by the node's name instead of the host's
		VerifyConnection: func(state tls.ConnectionState) error {
			cert, err := t.verify(state, x509.ExtKeyUsageServerAuth)
			if err != nil || name == "" {
				return err
			}
			return checkName(cert, name, cluster())
		},
	})
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectTimeout, KeepAliveConfig: tcpKeepAlive()}
	return d.DialContext(ctx, "tcp", address)
}
