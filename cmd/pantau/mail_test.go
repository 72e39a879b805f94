package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with mail is said by key, with its line.
func TestMailSettings(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good, open, two := write("good", "rahasia sekali\n", 0o600), write("open", "rahasia", 0o644), write("two", "a\nb\n", 0o600)
	base := "data_dir: /tmp/x\nmail:\n  host: mail.example.id\n  from: Pantau Desa <pantau@example.id>\n"
	for _, c := range []struct{ name, text, want string }{
		{"good", base + "  user: pantau\n  password_file: " + good + "\n  page_url: https://pantau.example.id\n", ""},
		{"no mail", "data_dir: /tmp/x\n", ""},
		{"no host", "mail:\n  from: pantau@example.id\n", "mail.host: is \"\": name the server"},
		{"host with port", "mail:\n  host: mail.example.id:587\n  from: pantau@example.id\n", "without its port"},
		{"no sender", "mail:\n  host: mail.example.id\n", "mail.from: is \"\": write a mail address"},
		{"odd encryption", base + "  encryption: ssl\n", "mail.encryption: is \"ssl\": it is starttls, tls, opportunistic or none"},
		{"in the clear", base + "  encryption: none\n  user: pantau\n  password_file: " + good + "\n", "mail.encryption: \"none\" would send the password in the clear"},
		{"no password", base + "  user: pantau\n", "mail.password_file: is empty while mail.user is set"},
		{"no user", base + "  password_file: " + good + "\n", "mail.user: is empty while mail.password_file is set"},
		{"open file", base + "  user: pantau\n  password_file: " + open + "\n", "may be read by others (mode 0644)"},
		{"two lines", base + "  user: pantau\n  password_file: " + two + "\n", "does not hold one line"},
		{"no file", base + "  user: pantau\n  password_file: " + filepath.Join(dir, "none") + "\n", "mail.password_file: cannot be read"},
		{"no certificates", base + "  ca_file: " + good + "\n", "mail.ca_file: holds no certificate"},
		{"odd page", base + "  page_url: pantau.example.id\n", "mail.page_url: is not an address"},
		{"odd language", base + "  language: jv\n", "mail.language: is neither id nor en"},
		{"odd patience", base + "  give_up: 30m\n", "mail.give_up: 30m0s is not within 1h and 7d"},
		{"a password in the settings", base + "  password: rahasia\n", "unknown key mail.password"},
	} {
		s, err := loadServe(write("pantau.yaml", c.text, 0o600))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case err != nil && strings.Contains(err.Error(), "rahasia"):
			t.Errorf("%s: the password is shown: %v", c.name, err)
		case c.name == "good":
			m, err := s.Mail.alerts()
			if err != nil || m == nil || m.SMTP.Password != "rahasia sekali" || m.SMTP.User != "pantau" {
				t.Errorf("%+v", m)
			}
		case c.name == "no mail":
			if m, err := s.Mail.alerts(); m != nil || err != nil {
				t.Errorf("%+v, %v", m, err)
			}
		}
	}
}
