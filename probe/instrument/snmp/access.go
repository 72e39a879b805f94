package snmp

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/gosnmp/gosnmp"

	"github.com/pantau-desa/pantau/configs/secret"
)

// Access is where a device is and how it lets itself be asked.
type Access struct {
	// Address is an IP address, with a port if it is not 161. No name: what is asked is
	// in the house, and must be found while the line is cut.
	Address string `mapstructure:"address"`
	Version string `mapstructure:"version"` // "2c" or "3"; empty: 2c
	// Community is 2c's word for who may read. It travels in the clear.
	Community secret.Text `mapstructure:"community"`
	// User and what follows are version 3's (RFC 3414, RFC 3826). Without Auth nothing
	// proves who asks; without Privacy everybody on the way can read.
	User            string      `mapstructure:"user"`
	Auth            string      `mapstructure:"auth"` // md5, sha, sha256, sha512 or empty
	AuthPassword    secret.Text `mapstructure:"auth_password"`
	Privacy         string      `mapstructure:"privacy"` // des, aes, aes256 or empty
	PrivacyPassword secret.Text `mapstructure:"privacy_password"`
}

// The two versions.
const (
	Version2c = "2c"
	Version3  = "3"
)

// shortest is the least length of a password (RFC 3414, section 11.2).
const shortest = 8

func auths() map[string]gosnmp.SnmpV3AuthProtocol {
	return map[string]gosnmp.SnmpV3AuthProtocol{"md5": gosnmp.MD5, "sha": gosnmp.SHA, "sha256": gosnmp.SHA256, "sha512": gosnmp.SHA512}
}

func privacies() map[string]gosnmp.SnmpV3PrivProtocol {
	return map[string]gosnmp.SnmpV3PrivProtocol{"des": gosnmp.DES, "aes": gosnmp.AES, "aes256": gosnmp.AES256}
}

// HasSecrets reports whether something in a must not be read by everybody.
func (a Access) HasSecrets() bool {
	return a.Community != "" || a.AuthPassword != "" || a.PrivacyPassword != ""
}

// Check returns what is wrong with a, by the name of the setting.
func (a Access) Check() map[string]string {
	wrong := map[string]string{}
	if _, err := a.endpoint(); err != nil {
		wrong["address"] = "is not an IP address, or IP:PORT"
	}
	unused := func(key string, set bool, why string) {
		if set {
			wrong[key] = why
		}
	}
	password := func(key string, protocol string, known bool, list string, p secret.Text) {
		switch {
		case protocol != "" && !known:
			wrong[key] = "is not one of " + list
		case protocol != "" && len(p) < shortest:
			wrong[key+"_password"] = fmt.Sprintf("is shorter than %d characters", shortest)
		case protocol == "" && p != "":
			wrong[key+"_password"] = "is there without " + key
		}
	}
	switch cmp.Or(a.Version, Version2c) {
	case Version2c:
		if a.Community == "" || len(a.Community) > 127 {
			wrong["community"] = "is empty or too long: name the community that may read"
		}
		unused("user", a.User != "", "is of version 3")
		unused("auth", a.Auth != "", "is of version 3")
		unused("auth_password", a.AuthPassword != "", "is of version 3")
		unused("privacy", a.Privacy != "", "is of version 3")
		unused("privacy_password", a.PrivacyPassword != "", "is of version 3")
	case Version3:
		if a.User == "" || len(a.User) > 32 {
			wrong["user"] = "is empty or longer than 32 characters: name the user that may read"
		}
		unused("community", a.Community != "", "is of version 2c")
		_, known := auths()[a.Auth]
		password("auth", a.Auth, known, "md5, sha, sha256, sha512", a.AuthPassword)
		_, known = privacies()[a.Privacy]
		password("privacy", a.Privacy, known, "des, aes, aes256", a.PrivacyPassword)
		if a.Privacy != "" && a.Auth == "" {
			wrong["privacy"] = "is there without auth"
		}
	default:
		wrong["version"] = "is not 2c or 3"
	}
	return wrong
}

const defaultPort = 161

func (a Access) endpoint() (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(a.Address)
	if err == nil {
		return netip.AddrPortFrom(addr.Unmap(), defaultPort), nil
	}
	host, port, err := net.SplitHostPort(a.Address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if addr, err = netip.ParseAddr(host); err != nil {
		return netip.AddrPort{}, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return netip.AddrPort{}, fmt.Errorf("port %q", port)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}

// fill sets version and credentials of a client.
func (a Access) fill(g *gosnmp.GoSNMP) {
	if cmp.Or(a.Version, Version2c) == Version2c {
		g.Version, g.Community = gosnmp.Version2c, string(a.Community)
		return
	}
	p := &gosnmp.UsmSecurityParameters{UserName: a.User, AuthenticationProtocol: gosnmp.NoAuth, PrivacyProtocol: gosnmp.NoPriv}
	g.Version, g.SecurityModel, g.MsgFlags = gosnmp.Version3, gosnmp.UserSecurityModel, gosnmp.NoAuthNoPriv
	if a.Auth != "" {
		g.MsgFlags = gosnmp.AuthNoPriv
		p.AuthenticationProtocol, p.AuthenticationPassphrase = auths()[a.Auth], string(a.AuthPassword)
	}
	if a.Privacy != "" {
		g.MsgFlags = gosnmp.AuthPriv
		p.PrivacyProtocol, p.PrivacyPassphrase = privacies()[a.Privacy], string(a.PrivacyPassword)
	}
	g.SecurityParameters = p
}
