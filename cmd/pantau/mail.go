package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/alerts"
	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/configs/secret"
)

// mailSettings are how people are told. Without a host nobody is mailed.
type mailSettings struct {
	Host         string        `mapstructure:"host"`
	Port         int           `mapstructure:"port"`
	Encryption   string        `mapstructure:"encryption"`
	CAFile       string        `mapstructure:"ca_file"`
	User         string        `mapstructure:"user"`
	PasswordFile string        `mapstructure:"password_file"`
	HELO         string        `mapstructure:"helo"`
	From         string        `mapstructure:"from"`
	PageURL      string        `mapstructure:"page_url"`
	Language     string        `mapstructure:"language"`
	Retry        time.Duration `mapstructure:"retry"`
	GiveUp       time.Duration `mapstructure:"give_up"`
	Gather       time.Duration `mapstructure:"gather"`
	Wider        time.Duration `mapstructure:"wider"`
}

// off reports whether nobody means to send mail: what has a default says nothing.
func (m mailSettings) off() bool {
	m.Retry, m.GiveUp, m.Gather, m.Wider = 0, 0, 0, 0
	return m == mailSettings{}
}

// check returns what is wrong, by key.
func (m mailSettings) check() map[string]string {
	_, wrong := m.read()
	return wrong
}

// alerts reads the files that the settings name; nil: nobody is mailed.
func (m mailSettings) alerts() (*alerts.Settings, error) {
	s, wrong := m.read()
	for key, what := range wrong { // since it was checked
		return nil, fmt.Errorf("mail.%s: %s", key, what)
	}
	return s, nil
}

func (m mailSettings) read() (*alerts.Settings, map[string]string) {
	wrong := map[string]string{}
	if m.off() {
		return nil, wrong
	}
	s := &alerts.Settings{From: m.From, PageURL: m.PageURL, Language: mail.Language(m.Language),
		SMTP:  outbox.SMTP{Host: m.Host, Port: m.Port, Encryption: outbox.Encryption(m.Encryption), User: m.User, HELO: m.HELO},
		Retry: m.Retry, GiveUp: m.GiveUp, Gather: m.Gather, Wider: m.Wider}
	var err error
	switch {
	case m.User != "" && m.PasswordFile == "":
		wrong["password_file"] = "is empty while mail.user is set: name a file that holds the password alone"
	case m.User == "" && m.PasswordFile != "":
		wrong["user"] = "is empty while mail.password_file is set"
	case m.PasswordFile != "":
		if s.SMTP.Password, err = passwordIn(m.PasswordFile); err != nil {
			wrong["password_file"] = err.Error()
		}
	}
	if m.CAFile != "" {
		raw, err := os.ReadFile(m.CAFile)
		s.SMTP.CA = x509.NewCertPool()
		switch {
		case err != nil:
			wrong["ca_file"] = "cannot be read: " + err.Error()
		case !s.SMTP.CA.AppendCertsFromPEM(raw):
			wrong["ca_file"] = "holds no certificate (PEM)"
		}
	}
	for key, what := range s.Check() {
		if key == "user" && wrong["password_file"] != "" {
			continue // said
		}
		wrong[key] = what
	}
	for key, d := range map[string]time.Duration{"retry": m.Retry, "gather": m.Gather} {
		if d != 0 && (d < time.Second || d > time.Hour) {
			wrong[key] = fmt.Sprintf("%v is not within 1s and 1h", d)
		}
	}
	if d := m.GiveUp; d != 0 && (d < time.Hour || d > 7*24*time.Hour) {
		wrong["give_up"] = fmt.Sprintf("%v is not within 1h and 7d", d)
	}
	return s, wrong
}

// passwordIn reads a password from a file that not everybody may read. Its group
// may: a credential of systemd shows its access list as that.
func passwordIn(file string) (secret.Text, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", err)
	case !info.Mode().IsRegular() || info.Size() > 4096:
		return "", errors.New("is no file with a password")
	case info.Mode().Perm()&0o027 != 0:
		return "", fmt.Errorf("may be read by others (mode %04o): chmod 600 %s", info.Mode().Perm(), file)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	password := strings.TrimRight(string(raw), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n") {
		return "", errors.New("does not hold one line, the password")
	}
	return secret.Text(password), nil
}
