package nearest

import (
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	words := []string{"data_dir", "ingest.listen", "inventory", "office.listen"}
	for word, want := range map[string]string{
		"data_dri": "data_dir", "ingest.lisen": "ingest.listen", "invent": "inventory", "inventroy": "inventory",
		"data_dir" + strings.Repeat("x", 1<<20): "data_dir",
	} {
		if got, _ := Of(word, words); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	if got, n := Of("data_dir", words); got != "data_dir" || n != 0 {
		t.Errorf("%q, %d edits", got, n)
	}
	if got, _ := Of("x", nil); got != "" {
		t.Errorf("%q of nothing", got)
	}
}
