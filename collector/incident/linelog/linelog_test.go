package linelog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type line struct {
	offset int64
	text   string
	err    error
}

func open(t *testing.T, path string) (*Log, int64, []line) {
	t.Helper()
	var got []line
	l, torn, err := Open(path, func(offset int64, object []byte, err error) {
		got = append(got, line{offset, string(object), err})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, torn, got
}

func TestWhatIsAppendedIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, _, _ := open(t, path)
	a, err := l.Append([]byte(`{"n":1}`), []byte(`{"n":2}`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Append([]byte(`{"n":3}`))
	if err != nil {
		t.Fatal(err)
	}
	for i, offset := range append(a, b...) {
		if got, err := l.Read(offset); err != nil || string(got) != fmt.Sprintf(`{"n":%d}`, i+1) {
			t.Errorf("%s %v", got, err)
		}
	}
	if _, _, err := Open(path, func(int64, []byte, error) {}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second process: %v", err)
	}
	l.Close()
	_, torn, got := open(t, path)
	if torn != 0 || len(got) != 3 || got[2].text != `{"n":3}` || got[2].offset != b[0] {
		t.Errorf("%d %+v", torn, got)
	}
}

func TestCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l, _, _ := open(t, path)
	offsets, err := l.Append([]byte(`{"n":1}`), []byte(`{"n":2}`), []byte(`{"n":3}`))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		path := filepath.Join(dir, fmt.Sprint(n))
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		want := 0
		for _, next := range append(offsets[1:], int64(len(whole))) {
			if int64(n) >= next {
				want++
			}
		}
		l, _, got := open(t, path)
		if len(got) != want {
			t.Fatalf("cut at %d: %d lines, want %d", n, len(got), want)
		}
		if _, err := l.Append([]byte(`{"n":9}`)); err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, torn, got := open(t, path)
		if torn != 0 || len(got) != want+1 || got[want].text != `{"n":9}` {
			t.Fatalf("cut at %d, then appended: %+v", n, got)
		}
	}
}

func TestADamagedLineIsPassedOverAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, _, _ := open(t, path)
	if _, err := l.Append([]byte(`{"n":1}`), []byte(`{"n":2}`), []byte(`{"n":3}`)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Replace(whole, []byte(`{"n":2`), []byte(`{"n":7`), 1)
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, got := open(t, path)
	if len(got) != 3 || got[0].err != nil || !errors.Is(got[1].err, ErrDamaged) || got[2].text != `{"n":3}` {
		t.Errorf("%+v", got)
	}
	if kept, err := os.ReadFile(path); err != nil || !bytes.Equal(kept, bad) {
		t.Errorf("the file was changed: %v", err)
	}
}

func TestRefused(t *testing.T) {
	l, _, _ := open(t, filepath.Join(t.TempDir(), "log"))
	for _, bad := range []string{"", "{}", "[1]", "{\"a\":\n1}", `{"a":"` + strings.Repeat("x", MaxLine) + `"}`} {
		if _, err := l.Append([]byte(bad)); err == nil {
			t.Errorf("took %d bytes", len(bad))
		}
	}
	if _, err := l.Read(7); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	l.Close()
	if _, err := l.Append([]byte(`{"n":1}`)); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

func TestAnEndlessLineTakesBoundedMemory(t *testing.T) {
	long := bytes.Repeat([]byte("x"), MaxLine+2)
	sealed, err := seal([]byte(`{"n":1}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []line
	end, err := Scan(bytes.NewReader(append(append(long, '\n'), sealed...)), func(offset int64, object []byte, err error) {
		got = append(got, line{offset, string(object), err})
	})
	if err != nil || len(got) != 2 || !errors.Is(got[0].err, ErrDamaged) || got[1].text != `{"n":1}` || end != int64(len(long)+1+len(sealed)) {
		t.Errorf("%d %v %+v", end, err, got)
	}
}

func FuzzScan(f *testing.F) {
	a, _ := seal([]byte(`{"n":1}`))
	b, _ := seal([]byte(`{"text":"\"crc32c\":"}`))
	f.Add(append(bytes.Clone(a), b...))
	f.Add(append(bytes.Clone(a[:5]), b...))
	f.Add([]byte("\n\n,\"crc32c\":\"00000000\"}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		last := int64(-1)
		end, err := Scan(bytes.NewReader(raw), func(offset int64, object []byte, err error) {
			if offset <= last || offset >= int64(len(raw)) {
				t.Fatalf("a line at %d after %d", offset, last)
			}
			last = offset
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Fatal(err)
				}
				return
			}
			again, err := seal(object)
			if err == nil && !bytes.HasPrefix(raw[offset:], again) {
				t.Fatalf("%q is not what stands at %d", object, offset)
			}
		})
		if err != nil || end > int64(len(raw)) || end > 0 && raw[end-1] != '\n' || bytes.IndexByte(raw[end:], '\n') >= 0 {
			t.Fatal(end, err)
		}
	})
}
