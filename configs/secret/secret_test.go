package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantau-desa/pantau/configs/secret"
)

func TestPrintsAsDots(t *testing.T) {
	const token = "rahasia"
	holder := struct {
		Token secret.Text
		Deep  map[string][]secret.Text
	}{token, map[string][]secret.Text{"a": {token}}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v", "%10.3s"} {
		fmt.Fprintf(&out, verb+"\n", holder.Token)
		fmt.Fprintf(&out, verb+"\n", holder)
		fmt.Fprintf(&out, verb+"\n", &holder)
	}
	fmt.Fprintln(&out, errors.New(fmt.Sprint("a", holder)), holder.Token)
	raw, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(raw)
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", "token", holder.Token, "all", holder)
	}
	for _, leak := range []string{token, fmt.Sprintf("%x", token), fmt.Sprintf("%X", token), token[:3]} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q shows in %s", leak, out.String())
		}
	}
	if !strings.Contains(out.String(), "***") {
		t.Error("nothing says that there is a secret")
	}
	if string(holder.Token) != token {
		t.Error("the secret itself is lost")
	}
	if got := fmt.Sprintf("%v|%s", secret.Text(""), secret.Text("")); got != "|" {
		t.Errorf("none prints as %q", got)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, text := range []string{"abc==", "abc==\n", " abc==\r\n\n"} {
		if got, err := secret.Read(write("good", text, 0o600)); err != nil || got != "abc==" {
			t.Errorf("%q: %q, %v", text, string(got), err)
		}
	}
	for _, c := range []struct{ file, want string }{
		{filepath.Join(dir, "nowhere"), "no such file"},
		{write("empty", " \n", 0o600), "is empty"},
		{write("words", "token: abcdef\n", 0o600), "holds more than one word"},
		{write("large", strings.Repeat("abcdef", 1000), 0o600), "larger than 4096 bytes"},
		{write("open", "abcdef", 0o644), "chmod 640"},
		{dir, "is a directory"},
	} {
		got, err := secret.Read(c.file)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.file) || got != "" {
			t.Errorf("%s: %v, want %q", c.file, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "abcdef") {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}
