package router

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// desk records what a router tells.
type desk struct {
	mu        sync.Mutex
	delivered []string // "receiver: ids firing / ids ceased"
	flushed   map[string][]string
	fail      error
}

func (d *desk) deliver(_ context.Context, receiver string, alerts []Alert) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	var firing, ceased []string
	for _, a := range alerts {
		if a.EndsAt.IsZero() {
			firing = append(firing, a.Labels["id"])
		} else {
			ceased = append(ceased, a.Labels["id"])
		}
	}
	slices.Sort(firing)
	slices.Sort(ceased)
	d.delivered = append(d.delivered, fmt.Sprintf("%s: %s / %s", receiver, strings.Join(firing, " "), strings.Join(ceased, " ")))
	return nil
}

func (d *desk) flush(a Alert, by []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushed[a.Labels["id"]] = by
}

func (d *desk) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

// take returns what was delivered since the last call.
func (d *desk) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.delivered
	d.delivered = nil
	return out
}

func (d *desk) told(id string) (by []string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	by, ok = d.flushed[id]
	return by, ok
}

func routes() Routes {
	return Routes{
		Receivers: []Receiver{
			{Name: "events", Match: []Matcher{{Label: "source", Value: "event"}}, GroupBy: []string{"id"}, Interval: time.Minute, Again: 1000 * time.Hour},
			{Name: "rules", Match: []Matcher{{Label: "source", Value: "rule"}, {Label: "kind", Value: "quality|capacity", Regexp: true}}, GroupBy: []string{"regency", "kind"},
				Wait: 30 * time.Second, Interval: 5 * time.Minute, Again: 1000 * time.Hour, Resolved: true},
		},
		Inhibitions: []Inhibition{{Source: []Matcher{{Label: "source", Value: "event"}}, Target: []Matcher{{Label: "source", Value: "rule"}}, Equal: []string{"village"}}},
	}
}

func open(t *testing.T, file string) (*Router, *desk) {
	t.Helper()
	d := &desk{flushed: map[string][]string{}}
	r, err := New(Options{SilenceFile: file, Deliver: d.deliver, Flushed: d.flush})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if err := r.Apply(routes()); err != nil {
		t.Fatal(err)
	}
	return r, d
}

func put(t *testing.T, r *Router, alerts ...Alert) {
	t.Helper()
	if err := r.Put(t.Context(), alerts...); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func event(id, village string) Alert {
	return Alert{Labels: map[string]string{"source": "event", "id": id, "village": village, "nodes": "/POP-A/OLT-1/ODC-2/"}, StartsAt: time.Now(), EndsAt: time.Now().Add(time.Hour)}
}

func rule(id, village string) Alert {
	return Alert{Labels: map[string]string{"source": "rule", "kind": "quality", "regency": "33.10", "id": id, "village": village}, StartsAt: time.Now(), EndsAt: time.Now().Add(4 * time.Minute)}
}

func want(t *testing.T, d *desk, lines ...string) {
	t.Helper()
	if got := d.take(); !slices.Equal(got, lines) {
		t.Errorf("delivered %q, want %q", got, lines)
	}
}

// An event is delivered at once and once; what waits for the same group goes
// together, forty or two.
func TestGroups(t *testing.T) {
	file := filepath.Join(t.TempDir(), "silences")
	synctest.Test(t, func(t *testing.T) {
		r, d := open(t, file)
		put(t, r, event("e1", "v1"), event("e2", "v2"))
		got := d.take()
		slices.Sort(got)
		if want := []string{"events: e1 / ", "events: e2 / "}; !slices.Equal(got, want) {
			t.Errorf("delivered %q", got)
		}
		if by, ok := d.told("e1"); !ok || len(by) != 0 {
			t.Errorf("flushed %v, %v", by, ok)
		}
		put(t, r, event("e1", "v1")) // put again: it is the same alert
		time.Sleep(5 * time.Minute)
		want(t, d)

		var ids []string
		for i := range 40 {
			put(t, r, rule(fmt.Sprintf("r%02d", i), fmt.Sprintf("w%d", i)))
			ids = append(ids, fmt.Sprintf("r%02d", i))
		}
		want(t, d)
		time.Sleep(time.Minute)
		want(t, d, "rules: "+strings.Join(ids, " ")+" / ")
		time.Sleep(10 * time.Minute) // nobody has put them again
		want(t, d, "rules:  / "+strings.Join(ids, " "))
		put(t, r, Alert{Labels: map[string]string{"source": "else", "id": "x"}, StartsAt: time.Now(), EndsAt: time.Now().Add(time.Hour)})
		if _, ok := d.told("x"); !ok {
			t.Error("what nobody is told of is not flushed")
		}
		want(t, d)
	})
}

func TestTriedAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "silences")
	synctest.Test(t, func(t *testing.T) {
		r, d := open(t, file)
		d.set(errors.New("full"))
		put(t, r, event("e1", "v1"))
		time.Sleep(20 * time.Minute)
		if _, ok := d.told("e1"); ok {
			t.Error("flushed without a delivery")
		}
		d.set(nil)
		time.Sleep(2 * time.Minute)
		want(t, d, "events: e1 / ")
		if _, ok := d.told("e1"); !ok {
			t.Error("delivered and not flushed")
		}
	})
}

// An alert that ended before it was delivered is not called delivered.
func TestEndedUndelivered(t *testing.T) {
	file := filepath.Join(t.TempDir(), "silences")
	synctest.Test(t, func(t *testing.T) {
		r, d := open(t, file)
		d.set(errors.New("full"))
		put(t, r, event("e1", "v1"))
		time.Sleep(2 * time.Hour)
		d.set(nil)
		time.Sleep(2 * time.Hour)
		if _, ok := d.told("e1"); ok {
			t.Error("flushed without a delivery")
		}
	})
}

func TestSilence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "silences")
	synctest.Test(t, func(t *testing.T) {
		r, _ := open(t, file)
		until := time.Now().Add(time.Hour)
		id, err := r.Silence(t.Context(), Silence{Match: []Matcher{{Label: "nodes", Value: ".*/OLT-1/.*", Regexp: true}}, Author: "operator", About: "kerja malam", Until: until, Notes: map[string]string{"by": "node"}})
		if err != nil {
			t.Fatal(err)
		}
		// As after a crash: nothing was closed.
		again, d := open(t, file)
		list, err := again.Silences(t.Context())
		if err != nil || len(list) != 1 || list[0].ID != id || list[0].Author != "operator" || list[0].About != "kerja malam" || !list[0].Until.Equal(until) || list[0].Notes["by"] != "node" {
			t.Fatalf("silences %+v, %v", list, err)
		}
		put(t, again, event("e1", "v1"))
		if by, ok := d.told("e1"); !ok || !slices.Equal(by, []string{id}) {
			t.Errorf("flushed %v by %v", ok, by)
		}
		put(t, again, Alert{Labels: event("e1", "v1").Labels, StartsAt: time.Now().Add(-time.Second), EndsAt: time.Now()})
		time.Sleep(2 * time.Hour)
		want(t, d)
		put(t, again, event("e2", "v1"))
		want(t, d, "events: e2 / ")
		if list, err := again.Silences(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("silences %+v, %v", list, err)
		}
	})
}

func TestExpire(t *testing.T) {
	file := filepath.Join(t.TempDir(), "silences")
	synctest.Test(t, func(t *testing.T) {
		r, d := open(t, file)
		id, err := r.Silence(t.Context(), Silence{Match: []Matcher{{Label: "village", Value: "v1"}}, Author: "a", About: "b", Until: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range []string{"", id[:3], "zzzz", id + "0"} {
			if _, err := r.Expire(t.Context(), wrong); !errors.Is(err, ErrNoSilence) {
				t.Errorf("Expire(%q): %v", wrong, err)
			}
		}
		time.Sleep(time.Second)
		if s, err := r.Expire(t.Context(), id[:8]); err != nil || s.ID != id {
			t.Errorf("Expire: %+v, %v", s, err)
		}
		time.Sleep(time.Second)
		put(t, r, event("e1", "v1"))
		want(t, d, "events: e1 / ")
		if _, err := r.Silence(t.Context(), Silence{Match: []Matcher{{Label: "village", Value: ""}}, Author: "a", About: "b", Until: time.Now().Add(time.Hour)}); err == nil {
			t.Error("a silence of everything was taken")
		}
	})
}

// A file that cannot be read is put aside, and the alerts are told.
func TestUnreadableSilences(t *testing.T) {
	file := filepath.Join(t.TempDir(), "silences")
	if err := os.WriteFile(file, []byte("\xff\xff\xff\xffnonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r, d := open(t, file)
		put(t, r, event("e1", "v1"))
		want(t, d, "events: e1 / ")
	})
	if _, err := os.Stat(file + ".unreadable"); err != nil {
		t.Error(err)
	}
}

func TestInhibition(t *testing.T) {
	file := filepath.Join(t.TempDir(), "silences")
	synctest.Test(t, func(t *testing.T) {
		r, d := open(t, file)
		put(t, r, event("e1", "v1"))
		want(t, d, "events: e1 / ")
		put(t, r, rule("r1", "v1"), rule("r2", "v2"))
		time.Sleep(time.Minute)
		want(t, d, "rules: r2 / ")
	})
}

// What waits is not lost when the receivers change.
func TestApplyAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "silences")
	synctest.Test(t, func(t *testing.T) {
		r, d := open(t, file)
		d.set(errors.New("full"))
		put(t, r, event("e1", "v1"))
		bad := routes()
		bad.Receivers[0].Match[0].Regexp, bad.Receivers[0].Match[0].Value = true, "("
		if err := r.Apply(bad); err == nil {
			t.Error("a bad condition was taken")
		}
		renamed := routes()
		renamed.Receivers[0].Name = "others"
		if err := r.Apply(renamed); err != nil {
			t.Fatal(err)
		}
		d.set(nil)
		time.Sleep(2 * time.Minute)
		want(t, d, "others: e1 / ")
	})
}
