package main

import (
	"crypto/x509"
	"fmt"
	"net/mail"
	"os"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/alerts"
	mails "github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/alerts/outbox"
)

// mailSettings are how people are told. Without a host nobody is mailed.
type mailSettings struct {
	Host         string        `mapstructure:"host"`
	Port         int           `mapstructure:"port"`
	Encryption   string        `mapstructure:"encryption"`
	CAFile       string        `mapstructure:"ca_file"`
	User         string        `mapstructure:"user"`
	PasswordFile string        `mapstructure:"password_file"`
	From         string        `mapstructure:"from"`
	PageURL      string        `mapstructure:"page_url"`
	Language     string        `mapstructure:"language"`
	Retry        time.Duration `mapstructure:"retry"`
	GiveUp       time.Duration `mapstructure:"give_up"`
	Gather       time.Duration `mapstructure:"gather"`
	Wider        time.Duration `mapstructure:"wider"`
}

func (m mailSettings) settings() alerts.Settings {
	return alerts.Settings{From: m.From, PageURL: m.PageURL, Language: mails.Language(m.Language),
		SMTP:  outbox.SMTP{Host: m.Host, Port: m.Port, Encryption: outbox.Encryption(m.Encryption), User: m.User},
		Retry: m.Retry, GiveUp: m.GiveUp, Gather: m.Gather, Wider: m.Wider}
}

// check returns what is wrong, by key.
func (m mailSettings) check() map[string]string {
	wrong := m.settings().Check()
	if m.Host == "" {
		m.Retry, m.GiveUp, m.Gather, m.Wider = 0, 0, 0, 0
		if m != (mailSettings{}) { // somebody means to send mail
			wrong["host"] = "is empty while other keys of mail are set: name the server that takes mails"
		}
		return wrong
	}
	if _, err := mail.ParseAddress(m.From); err != nil {
		wrong["from"] = "is not a sender such as Pantau Desa <pantau@klaten.example.id>"
	}
	if m.User != "" && m.PasswordFile == "" {
		wrong["password_file"] = "is empty while mail.user is set: name a file that holds the password alone"
	}
	if m.Port < 0 || m.Port > 65535 {
		wrong["port"] = fmt.Sprintf("%d is no TCP port", m.Port)
	}
	switch outbox.Encryption(m.Encryption) {
	case "", outbox.StartTLS, outbox.Implicit, outbox.Opportunistic, outbox.Plain:
	default:
		wrong["encryption"] = fmt.Sprintf("%q is not one of %s, %s, %s, %s", m.Encryption, outbox.StartTLS, outbox.Implicit, outbox.Opportunistic, outbox.Plain)
	}
	return wrong
}

// alerts reads the files that the settings name; nil: nobody is mailed.
func (m mailSettings) alerts() (*alerts.Settings, error) {
	if m.Host == "" {
		return nil, nil
	}
	s := m.settings()
	if m.PasswordFile != "" {
		raw, err := os.ReadFile(m.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("mail.password_file: %w", err)
		}
		if s.SMTP.Password = outbox.Secret(strings.TrimRight(string(raw), "\r\n")); s.SMTP.Password == "" {
			return nil, fmt.Errorf("mail.password_file: %s is empty", m.PasswordFile)
		}
	}
	if m.CAFile != "" {
		raw, err := os.ReadFile(m.CAFile)
		if err != nil {
			return nil, fmt.Errorf("mail.ca_file: %w", err)
		}
		s.SMTP.CA = x509.NewCertPool()
		if !s.SMTP.CA.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("mail.ca_file: %s holds no certificate (PEM)", m.CAFile)
		}
	}
	return &s, nil
}
