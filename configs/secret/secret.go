// Package secret holds what settings must not show: passwords and tokens.
package secret

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"unicode"
)

// Text is a secret that prints as dots, whoever prints it and however; only a
// conversion to string shows it.
type Text string

const dots = "***"

// Format, String, LogValue and MarshalText hide the secret. An empty one prints
// as nothing: that none is set is no secret.
func (t Text) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, t.String()) }
func (t Text) LogValue() slog.Value         { return slog.StringValue(t.String()) }
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
func (t Text) String() string {
	if t == "" {
		return ""
	}
	return dots
}

// maxFile bounds a secret's file, in bytes.
const maxFile = 4096

// Read reads a secret from a file that holds nothing else; spaces and line ends
// around it do not count. Errors name the file and never what is in it.
func Read(file string) (Text, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(raw))
	switch {
	case len(raw) > maxFile:
		return "", fmt.Errorf("%s is larger than %d bytes: is it the right file?", file, maxFile)
	case text == "":
		return "", fmt.Errorf("%s is empty", file)
	case !Plain(text):
		return "", fmt.Errorf("%s holds more than one word: it may hold the secret alone", file)
	}
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); info.Mode().IsRegular() && mode&0o007 != 0 {
		return "", fmt.Errorf("%s can be read by everybody on this machine (mode %04o): chmod 640 or less", file, mode)
	}
	return Text(text), nil
}

// Plain reports whether a secret is one word that can go into a header.
func Plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}
