package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
)

func checkAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("%q is not host:port: %w", text, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has no port of 0 to 65535", text)
	}
	return nil
}

func checkLoopback(text string) error {
	if err := checkAddress(text); err != nil {
		return err
	}
	if !isLoopback(text) {
		return fmt.Errorf("%q is not a loopback address such as 127.0.0.1:9242", text)
	}
	return nil
}

// isLoopback judges a valid host:port by its text. Names other than
// "localhost" are not resolved: what they mean may change after the check.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// samePort tells whether two listeners would ask for one and the same fixed port.
func samePort(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errors.Join(errA, errB) == nil && hostA == hostB && portA == portB && portA != "0"
}

func checkWebConfigFile(path string) error {
	if path == "" {
		return nil
	}
	if err := web.Validate(path); err != nil {
		return fmt.Errorf("web configuration %s: %w", path, err)
	}
	return nil
}

// webConfigAuthenticates tells whether a valid web configuration lets in only
// clients that it knows: by password, or by a certificate that it verifies.
func webConfigAuthenticates(path string) (bool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	var c struct {
		Users map[string]string `yaml:"basic_auth_users"`
		TLS   struct {
			ClientAuth string `yaml:"client_auth_type"`
		} `yaml:"tls_server_config"`
	}
	if err := yaml.Unmarshal(content, &c); err != nil {
		return false, fmt.Errorf("web configuration %s: %w", path, err)
	}
	return len(c.Users) > 0 || c.TLS.ClientAuth == "RequireAndVerifyClientCert", nil
}
