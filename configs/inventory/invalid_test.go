package inventory

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the messages as they are into testdata/invalid-*/want.txt")

// overlay reads the valid files, replaced by those of another directory.
func overlay(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for _, d := range []string{"testdata/valid", dir} {
		paths, err := filepath.Glob(filepath.Join(d, "*.csv"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no files in %s (%v)", d, err)
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.Base(p)] = b
		}
	}
	return files
}

// Each testdata/invalid-* holds the files that differ from testdata/valid, and
// the exact messages.
func TestInvalid(t *testing.T) {
	dirs, err := filepath.Glob("testdata/invalid-*")
	if err != nil || len(dirs) < 10 {
		t.Fatalf("found %d cases (%v)", len(dirs), err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			_, err := Parse(overlay(t, dir))
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("error is %v, not Problems", err)
			}
			got := problems.Error() + "\n"
			path := filepath.Join(dir, "want.txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			for _, p := range problems {
				if p.File == "" || p.What == "" || p.Remedy == "" || strings.Contains(p.String(), "\n") {
					t.Errorf("incomplete problem %#v", p)
				}
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	files := overlay(t, "testdata/valid")
	delete(files, "plans.csv")
	delete(files, "isps.csv") // nobody's provider is called unknown for that
	_, err := Parse(files)
	want := "isps.csv: the file is missing. Create it, at least with the header line: isp;name;noc_phone;noc_email;noc_hours;valid_from;valid_to;note\n" +
		"plans.csv: the file is missing. Create it, at least with the header line: site;download_mbps;upload_mbps;source_document;valid_from;valid_to;note"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	files := overlay(t, "testdata/valid")
	files["plans.csv"] = []byte("site,download_mbps,upload_mbps,source_document,valid_from\n" + strings.Repeat("s1,1,1,,2026-01-01\n", 5000))
	_, err := Parse(files)
	problems, ok := err.(Problems)
	if !ok || len(problems) != maxProblems+1 {
		t.Fatalf("%d problems, want %d and one that counts the rest", len(problems), maxProblems)
	}
	if got, want := problems[0].What, "only 1000 of 5000 problems are listed"; got != want {
		t.Errorf("first is %q, want %q", got, want)
	}
}
