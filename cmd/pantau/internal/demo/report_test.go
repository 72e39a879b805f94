package demo

import (
	"encoding/json"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/world"
	"github.com/pantau-desa/pantau/probe/netlab"
)

func TestVerdict(t *testing.T) {
	good := VillageReport{Name: "Bener", ShapedDownload: 38.16e6, ShapedUpload: 19.03e6, MedianDownload: netlab.PayloadRate(38.16e6),
		MedianUpload: netlab.PayloadRate(19.03e6), Tests: 3, usage: true, latency: true, reach: true}
	with := func(change func(*VillageReport)) VillageReport { v := good; change(&v); return v }
	for name, c := range map[string]struct {
		v    VillageReport
		want []string
	}{
		"good":            {v: good},
		"9% above":        {v: with(func(v *VillageReport) { v.MedianDownload *= 1.09 })},
		"9% below":        {v: with(func(v *VillageReport) { v.MedianUpload *= 0.91 })},
		"11% above":       {with(func(v *VillageReport) { v.MedianDownload *= 1.11 }), []string{"median download of 40.51 Mbit/s, its line carries 36.50"}},
		"11% below":       {with(func(v *VillageReport) { v.MedianUpload *= 0.89 }), []string{"median upload of 16.20 Mbit/s, its line carries 18.20"}},
		"no test":         {with(func(v *VillageReport) { v.Tests, v.MedianDownload, v.MedianUpload = 0, 0, 0 }), []string{"no speed test"}},
		"no upload":       {with(func(v *VillageReport) { v.MedianUpload = 0 }), []string{"median upload of 0.00 Mbit/s, its line carries 18.20"}},
		"nothing":         {with(func(v *VillageReport) { v.usage, v.latency, v.reach = false, false, false }), []string{"no latency", "no reach", "no usage"}},
		"loopback":        {v: with(func(v *VillageReport) { v.ShapedDownload, v.ShapedUpload, v.usage = 0, 0, false })},
		"loopback, empty": {with(func(v *VillageReport) { *v = VillageReport{} }), []string{"no speed test", "no latency", "no reach"}},
	} {
		if diff := cmp.Diff(c.want, c.v.problems()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestConclusion(t *testing.T) {
	good := VillageReport{Name: "Bener", Tests: 3}
	bad := VillageReport{Name: "Gunting", ReachMissing: 2, Problems: []string{"no speed test", "no usage"}}
	for _, c := range []struct {
		report Report
		err    error
		want   string
	}{
		{Report{Netns: true, Seconds: 252, Villages: []VillageReport{good, good}}, nil,
			"The figures hold for all 2 villages, after 4m12s and 6 speed tests; 0 slots of reach are missing.\nNothing is left but .pantau-demo.\n"},
		{Report{Netns: true, Seconds: 61, Villages: []VillageReport{good, bad}}, nil,
			"The figures do not hold for 1 of 2 villages, after 1m1s and 3 speed tests; 2 slots of reach are missing.\n" +
				"  Gunting: no speed test; no usage\nNothing is left but .pantau-demo.\n"},
		{Report{}, nil, "Ended before anything was measured. Nothing is left but .pantau-demo.\n"},
		{Report{Villages: []VillageReport{good}}, errors.New("broken"), ""},
	} {
		var b strings.Builder
		r := &run{opt: Options{Dir: ".pantau-demo"}, screen: &screen{out: &b}}
		r.conclude(c.report, c.err)
		if diff := cmp.Diff(c.want, b.String()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// Scripts read these.
func TestReportFields(t *testing.T) {
	raw, err := json.Marshal(Report{Villages: []VillageReport{{Problems: []string{"no usage"}}}})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	fields := func(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
	if diff := cmp.Diff([]string{"duration_seconds", "first_result_seconds", "mails", "netns", "ok", "page", "seed", "target", "villages"}, fields(got)); diff != "" {
		t.Error(diff)
	}
	played, err := json.Marshal(Report{StoryReport: &StoryReport{}})
	if err != nil {
		t.Fatal(err)
	}
	var story map[string]any
	if err := json.Unmarshal(played, &story); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ok", "netns", "villages", "cut_to_mail_seconds", "mails_firing", "mails_recovery", "mails_late", "villages_named_exactly", "missing_minutes"} {
		if _, ok := story[name]; !ok {
			t.Errorf("a story's report has no %s", name)
		}
	}
	if story["cut_to_mail_seconds"] != nil || story["missing_minutes"] != nil {
		t.Error("what is not known is a number")
	}
	if diff := cmp.Diff([]string{"latency_seconds_median", "median_download_bps", "median_upload_bps", "name", "problems", "reach_missing",
		"reach_results", "shaped_download_bps", "shaped_upload_bps", "state", "tests", "usage_bytes_received", "village", "within_tolerance"},
		fields(got["villages"].([]any)[0].(map[string]any))); diff != "" {
		t.Error(diff)
	}
}

// Whatever step of building fails, nothing of those before it stays open.
func TestFailedBuildLeavesNothingOpen(t *testing.T) {
	for _, broken := range []string{"inventory", "collector"} { // folders that cannot be made
		dir := t.TempDir()
		write(t, filepath.Join(dir, broken), "a file")
		r := newRun(t, Options{Villages: 2, NoNetns: true, Office: "127.0.0.1:0"})
		if err := r.build(t.Context(), dir); err == nil {
			t.Fatalf("%s: it was built", broken)
		}
		if err := r.teardown(); err != nil {
			t.Error(err)
		}
		listeners := 0
		for _, c := range r.open {
			was, ok := c.(net.Listener)
			if !ok {
				continue
			}
			listeners++
			l, err := net.Listen("tcp", was.Addr().String())
			if err != nil {
				t.Errorf("%s: still open: %v", broken, err)
				continue
			}
			l.Close()
		}
		if listeners != 4 {
			t.Errorf("%s: %d listeners, want those of pages, mails and both targets", broken, listeners)
		}
	}
}

func TestFailedBuildRemovesItsNamespaces(t *testing.T) {
	needsNamespaces(t)
	o := Options{Dir: filepath.Join(t.TempDir(), "demo"), Villages: 1, Office: "256.0.0.1:1", Out: t.Output()}
	stood := false
	o.standing = func(*run) { stood = true }
	out, err := Run(t.Context(), o)
	if err == nil || stood || !strings.Contains(err.Error(), "the pages") || out.OK {
		t.Fatalf("%v: %+v", err, out)
	}
	if left := ownNamespaces(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A taken port gives way, and is said by the page's address.
func TestTakenPortGivesWay(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	l, err := listenNear(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Addr().String() == taken.Addr().String() || !strings.HasPrefix(l.Addr().String(), "127.0.0.1:") {
		t.Errorf("listens on %s", l.Addr())
	}
}

func newRun(t *testing.T, o Options) *run {
	t.Helper()
	o.Out = t.Output()
	return &run{opt: o, log: testLog(t), screen: &screen{out: o.Out}, began: time.Now()}
}

// The pattern under the table and the commands are one and the same.
func TestPatternIsTheCommand(t *testing.T) {
	needsNamespaces(t)
	places := make([]world.Place, 4)
	w, err := world.Build(t.Context(), world.Options{Seed: 1, Villages: places, Name: "pattern-test"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := pattern(w)
	for i, v := range w.Villages {
		k := slices.Index(w.ODCs, v.ODC)
		said := strings.NewReplacer("odcK", "odc"+string(rune('1'+k)), "#", string(rune('1'+i))).Replace(p)
		if said != v.Cut {
			t.Errorf("village %d: %q means %q, the command is %q", i+1, p, said, v.Cut)
		}
	}
	for k, o := range w.ODCs {
		said := strings.NewReplacer("odcK", "odc"+string(rune('1'+k)), "drop-#", "uplink").Replace(p)
		if said != o.Cut {
			t.Errorf("ODC %d: %q, the command is %q", k+1, said, o.Cut)
		}
	}
}

func ownNamespaces(t *testing.T) []string {
	t.Helper()
	return namespacesOf(t, os.Getpid())
}
