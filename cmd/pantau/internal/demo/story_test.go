package demo

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/post"
	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/world"
)

func TestStepIsTakenInTimeOrNot(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		begin  error
		comes  time.Duration // 0: never
		breaks time.Duration // 0: never
		ends   time.Duration // the story's time; 0: never
		want   error
		after  time.Duration
		heard  int
	}{
		{name: "at once", comes: time.Nanosecond, after: time.Second, heard: 1},
		{name: "in time", comes: 9 * time.Second, after: 9 * time.Second, heard: 9},
		{name: "late", comes: 20 * time.Second, want: errLate, after: 11 * time.Second, heard: 11},
		{name: "never", want: errLate, after: 11 * time.Second, heard: 11},
		{name: "cannot begin", begin: broken, want: broken},
		{name: "cannot hold any more", comes: 9 * time.Second, breaks: 3 * time.Second, want: broken, after: 3 * time.Second, heard: 3},
		{name: "the story takes too long", ends: 5500 * time.Millisecond, want: broken, after: 5500 * time.Millisecond, heard: 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if c.ends > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeoutCause(ctx, c.ends, broken)
					defer cancel()
				}
				began := time.Now()
				s := step{name: "it comes", within: 10 * time.Second, look: func(context.Context) (string, bool, error) {
					age := time.Since(began)
					if c.breaks > 0 && age >= c.breaks {
						return "", false, broken
					}
					return age.String(), c.comes > 0 && age >= c.comes, nil
				}}
				if c.begin != nil {
					s.begin = func(context.Context) error { return c.begin }
				}
				heard := 0
				r, err := s.take(ctx, func(string) { heard++ })
				if !errors.Is(err, c.want) || r.OK != (c.want == nil) || time.Since(began) != c.after || r.Seconds != c.after.Seconds() || heard != c.heard || r.Within != 10 || r.Name != "it comes" {
					t.Errorf("%+v, %v after %v, heard %d times", r, err, time.Since(began), heard)
				}
				if c.want == nil && r.Said == "" {
					t.Error("it does not say what it saw")
				}
			})
		})
	}
}

// The first step that fails ends the story, and says so.
func TestConclusionOfTheStory(t *testing.T) {
	after, missing := 170.0, 0
	s := &story{report: StoryReport{CutToMail: &after, RestoredToMail: &after, MissingMinutes: &missing}}
	if got := s.conclusion(); !strings.Contains(got, "told 170 s after the cut") || !strings.Contains(got, "0 minutes missing") {
		t.Error(got)
	}
	s = &story{failed: errors.New("story 3/7: broken")}
	if got := s.conclusion(); got != "The story does not hold. story 3/7: broken" {
		t.Error(got)
	}
}

func TestStoryIsDrawnAnew(t *testing.T) {
	w := &world.World{}
	for i := range 6 {
		if i%3 == 0 {
			w.ODCs = append(w.ODCs, &world.ODC{})
		}
		o := w.ODCs[i/3]
		v := &world.Village{ODC: o, Place: world.Place{Code: string(rune('a' + i))}}
		w.Villages, o.Villages = append(w.Villages, v), append(o.Villages, v)
	}
	draw := func(seed uint64) StoryReport {
		r := &run{opt: Options{Seed: seed}, world: w}
		for _, v := range w.Villages {
			r.lines = append(r.lines, line{place: place{Code: v.Code}})
		}
		return r.newStory().report
	}
	cuts, spikes := map[string]bool{}, map[string]bool{}
	for seed := range uint64(50) {
		s := draw(seed)
		if diff := cmp.Diff(s, draw(seed)); diff != "" {
			t.Fatal("the same seed drew another story: ", diff)
		}
		cuts[s.CutNode+strings.Join(s.CutVillages, "")], spikes[s.SpikeVillage] = true, true
	}
	if !cuts["ODC-1abc"] || !cuts["ODC-2def"] || len(cuts) != 2 || len(spikes) != 6 {
		t.Errorf("fifty stories cut %v and fill %v", cuts, spikes)
	}
}

var (
	cutAt    = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	mendedAt = cutAt.Add(4 * time.Minute)
)

const (
	kominfo     = "kominfo@klaten.example.id"
	network     = "network@klaten.example.id"
	cutIncident = "G-3310-261124-01"
)

// letter is one to an office, so many seconds after the cut.
func letter(to string, news post.News, seconds int) post.Letter {
	l := post.Letter{Recipient: to, News: news, Incident: cutIncident, At: cutAt.Add(time.Duration(seconds) * time.Second),
		MessageID: string(news) + "." + to, Subject: "[Gangguan] 2 desa putus", Text: "Boto 33.10.15.2009 Sekaran 33.10.15.2014", HTML: "<td>Boto<td>33.10.15.2009<td>Sekaran<td>33.10.15.2014"}
	if news == post.Recovered {
		l.Subject, l.References = "[Pulih] 2 desa pulih 19.04 WIB setelah 4 menit: ODC putus", []string{string(post.Opened) + "." + to}
	}
	return l
}

func TestTally(t *testing.T) {
	other := letter(kominfo, post.Opened, 100)
	other.Incident = "G-3310-261124-02"
	weekly := letter(kominfo, post.Other, 100)
	opened, recovered := letter(kominfo, post.Opened, 200), letter(kominfo, post.Recovered, 430)
	good := []post.Letter{opened, letter(network, post.Opened, 201), recovered, letter(network, post.Recovered, 431)}
	for _, c := range []struct {
		name    string
		letters []post.Letter
		firing  int
		back    int
		late    int
		without []string // a firing one
	}{
		{"none", nil, 0, 0, 0, []string{kominfo, network}},
		{"one office", []post.Letter{opened}, 1, 0, 0, []string{network}},
		{"as it should be", good, 1, 1, 0, nil},
		{"other news", append(slices.Clone(good), other, weekly), 1, 1, 0, nil},
		{"told twice", append(slices.Clone(good[:2]), letter(kominfo, post.Widened, 210)), 2, 0, 0, nil},
		{"unstable", append(slices.Clone(good[:2]), letter(kominfo, post.Unstable, 210)), 2, 0, 0, nil},
		{"told after the repair", []post.Letter{letter(kominfo, post.Opened, 250), letter(network, post.Opened, 230)}, 1, 0, 1, nil},
		{"told after the recovery", append(slices.Clone(good), letter(kominfo, post.Opened, 500)), 2, 1, 1, nil},
		{"recovered twice", append(slices.Clone(good), letter(network, post.Recovered, 500)), 1, 2, 1, nil},
	} {
		got := tallyOf(c.letters, []string{cutIncident}, []string{kominfo, network}, mendedAt)
		firing, back := got.most(func(x count) int { return x.Firing }), got.most(func(x count) int { return x.Recovery })
		if firing != c.firing || back != c.back || got.late != c.late {
			t.Errorf("%s: %d firing, %d recovery, %d late", c.name, firing, back, got.late)
		}
		if diff := cmp.Diff(c.without, got.without(func(x count) int { return x.Firing })); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	got := tallyOf(good, []string{cutIncident}, []string{kominfo, network}, mendedAt)
	if !got.firstFiring.Equal(cutAt.Add(200*time.Second)) || !got.firstRecovery.Equal(cutAt.Add(430*time.Second)) {
		t.Errorf("first at %v and %v", got.firstFiring, got.firstRecovery)
	}
	if two := tallyOf(append(slices.Clone(good), other), []string{cutIncident, other.Incident}, []string{kominfo, network}, mendedAt); two.most(func(x count) int { return x.Firing }) != 2 {
		t.Error("one cut that was made into two incidents counts as one")
	}
}

func TestNamesExactly(t *testing.T) {
	these, others := []string{"Boto", "33.10.15.2009", "Sekaran", "33.10.15.2014"}, []string{"Bener", "33.10.15.2002"}
	for name, c := range map[string]struct {
		change func(*post.Letter)
		wrong  string
	}{
		"exact":              {func(*post.Letter) {}, ""},
		"one is not named":   {func(l *post.Letter) { l.Text = strings.ReplaceAll(l.Text, "Sekaran", "") }, "does not name Sekaran in both"},
		"not in the HTML":    {func(l *post.Letter) { l.HTML = "Boto 33.10.15.2009" }, "does not name Sekaran in both"},
		"one too many":       {func(l *post.Letter) { l.Text += " Bener" }, "names Bener"},
		"one code too many":  {func(l *post.Letter) { l.HTML += " 33.10.15.2002" }, "names 33.10.15.2002"},
		"a name in a name":   {func(l *post.Letter) { l.Text += " Benerwojo" }, ""},
		"nothing but a name": {func(l *post.Letter) { l.Text, l.HTML = "Boto", "Boto" }, "does not name 33.10.15.2009"},
	} {
		second := letter(network, post.Opened, 200)
		c.change(&second)
		err := tallyOf([]post.Letter{letter(kominfo, post.Opened, 200), second}, []string{cutIncident}, nil, time.Time{}).namesExactly(these, others)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSaysHowLongAndWhy(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*post.Letter)
		wrong  string
	}{
		"good":                    {func(*post.Letter) {}, ""},
		"pending":                 {func(l *post.Letter) { l.Subject = "[Pulih] 2 desa pulih setelah 5 menit: penyebab belum pasti" }, ""},
		"no duration":             {func(l *post.Letter) { l.Subject = "[Pulih] 2 desa pulih: ODC putus" }, "does not say how long"},
		"wrong":                   {func(l *post.Letter) { l.Subject = "[Pulih] 2 desa pulih setelah 41 menit: ODC putus" }, "says 41m0s; it was 4m0s"},
		"no cause":                {func(l *post.Letter) { l.Subject = "[Pulih] 2 desa pulih setelah 4 menit" }, "no word on the cause"},
		"other thread":            {func(l *post.Letter) { l.References = nil }, "not in the thread"},
		"another office's thread": {func(l *post.Letter) { l.References = []string{"opened." + kominfo} }, "not in the thread"},
	} {
		last := letter(network, post.Recovered, 430)
		c.change(&last)
		err := tallyOf([]post.Letter{letter(kominfo, post.Opened, 200), letter(network, post.Opened, 200), last}, []string{cutIncident}, nil, mendedAt).
			saysHowLongAndWhy(mendedAt.Sub(cutAt))
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSlots(t *testing.T) {
	const length = 15 * time.Second
	from, to := cutAt.Add(7*time.Second), cutAt.Add(3*time.Minute+2*time.Second)
	ends := windows(from, to, length)
	if first, last := ends[0], ends[len(ends)-1]; first != cutAt.Add(30500*time.Millisecond) || last != cutAt.Add(180500*time.Millisecond) || len(ends) != 11 {
		t.Fatalf("%d windows from %v to %v", len(ends), first, last)
	}
	s := slots{ends: ends, reached: map[string]map[int64]float64{"a": {}, "b": {}}}
	for i, end := range ends {
		s.reached["a"][end.UnixMilli()] = float64(i % 2)
		if i != 3 && i != 4 && i != 10 {
			s.reached["b"][end.UnixMilli()] = 1
		}
	}
	missing := []int{s.missingMinutes("a"), s.missingMinutes("b"), s.missingMinutes("c")}
	if diff := cmp.Diff([]int{0, 2, 4}, missing); diff != "" { // the minutes of a village that never reported are all missing
		t.Error(diff)
	}
	if reached, cutOff := s.count("a", ends[0], ends[10]); reached != 5 || cutOff != 6 {
		t.Errorf("%d reached, %d not", reached, cutOff)
	}
	if reached, cutOff := s.count("b", ends[2], ends[6]); reached != 3 || cutOff != 0 {
		t.Errorf("%d reached, %d not", reached, cutOff)
	}
	if got := windows(from, from.Add(length), length); len(got) != 0 {
		t.Errorf("a span too short for a whole window has %v", got)
	}
}
