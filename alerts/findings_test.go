package alerts

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
)

// found is an alert of a rule about the n-th village of the network.
func (w *world) found(kind string, n int) *rules.Alert {
	site, ok := w.inv.Load().Site(siteID(n), time.Now())
	if !ok {
		w.t.Fatalf("no site %d", n)
	}
	v, _ := w.inv.Load().Village(site.Village)
	now := time.Now()
	return &rules.Alert{State: rules.StateFiring, ActiveAt: now.Add(-15 * time.Minute), FiredAt: now, ValidUntil: now.Add(4 * time.Minute),
		Labels: labels.FromStrings("alertname", "LineFull", "kind", kind, "severity", "warning", "province", "33", "regency", "33.10",
			"district", v.District.Code, "village", v.Code, "site", string(site.ID)),
		Annotations: labels.FromStrings("summary", "The line of "+v.Name+" is 93% full.", "ringkasan", "Jalur internet di "+v.Name+" hampir penuh.", "description", "Ask.", "value", "0.93")}
}

func ill(name, severity string) *rules.Alert {
	now := time.Now()
	return &rules.Alert{State: rules.StateFiring, ActiveAt: now, FiredAt: now, ValidUntil: now.Add(4 * time.Minute), Labels: labels.FromStrings("alertname", name, "kind", "ours", "severity", severity),
		Annotations: labels.FromStrings("summary", name+" is wrong.", "ringkasan", name+" tidak wajar.", "description", "Make room.", "saran", "Tambah ruang.")}
}

// evaluate puts the alerts again each minute, as a rule manager does.
func (w *world) evaluate(d time.Duration, alerts ...*rules.Alert) {
	for range d / time.Minute {
		for _, a := range alerts {
			a.ValidUntil = time.Now().Add(4 * time.Minute)
		}
		w.service.Notify(w.t.Context(), "", alerts...)
		time.Sleep(time.Minute)
		synctest.Wait()
	}
}

func resolve(alerts ...*rules.Alert) {
	for _, a := range alerts {
		a.State, a.ResolvedAt = rules.StateInactive, time.Now()
	}
}

// Forty lines are full: one mail, and one when none is any more.
func TestRulesAreGathered(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		var full, slow []*rules.Alert
		for n := range 40 {
			full = append(full, w.found("capacity", n+1))
		}
		for n := range 3 {
			slow = append(slow, w.found("quality", n+41))
		}
		w.evaluate(5*time.Minute, full...)
		w.evaluate(20*time.Minute, append(full, slow...)...)
		w.expect(dinas, "[Kapasitas] 40 desa", "[Mutu menurun] 3 desa di Kec. Wedi menurun")
		w.expect(second, "[Capacity] 40 villages", "[Degraded] 3 villages")
		w.expect(province)
		w.expect(ops)
		if m := w.letters(dinas)[0]; !strings.Contains(m.text, "Jalur internet di ") || !strings.Contains(m.text, "Dan 28 temuan serupa.") || strings.Contains(m.text, "Dugaan") || strings.Contains(m.text, "dugaan") {
			t.Errorf("the mail reads\n%s", m.text)
		}
		// One more within hours is not told at once, but with what else there is then.
		more := w.found("capacity", 41)
		w.evaluate(2*time.Hour, append(full, more)...)
		w.expect(dinas, "[Kapasitas] 40", "[Mutu menurun] 3", "[Pulih] 3 desa di Kec. Wedi kembali biasa")
		w.evaluate(5*time.Hour, append(full, more)...)
		w.expect(dinas, "[Kapasitas] 40", "[Mutu menurun] 3", "[Pulih] 3", "[Meluas] 41 desa")
		resolve(append(full, more)...)
		w.evaluate(10*time.Minute, append(full, more)...)
		w.expect(dinas, "[Kapasitas] 40", "[Mutu menurun] 3", "[Pulih] 3", "[Meluas] 41", "[Pulih] 41")
		m := w.letters(dinas)
		if m[3].references != m[0].id || !strings.HasSuffix(m[4].references, m[3].id) {
			t.Errorf("threads: %q after %q, %q after %q", m[3].references, m[0].id, m[4].references, m[3].id)
		}
		// It begins anew: that is another thread.
		w.evaluate(10*time.Minute, w.found("capacity", 1))
		if m = w.letters(dinas); len(m) != 6 || m[5].references != "" || m[5].id == m[0].id {
			t.Errorf("a new beginning: %+v", w.subjects(dinas))
		}
	})
}

// What is wrong with the collector is for operations, and worst first.
func TestRulesAboutOurselves(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		bad := []*rules.Alert{ill("SinkBehind", "warning"), ill("DiskSpaceCritical", "critical")}
		w.evaluate(10*time.Minute, bad...)
		w.expect(ops, "[Server] 2 hal: DiskSpaceCritical tidak wajar")
		resolve(bad...)
		w.evaluate(10*time.Minute, bad...)
		w.expect(ops, "[Server] 2 hal", "[Server pulih] 2 hal")
		w.expect(dinas)
	})
}

// A restart forgets nothing and repeats nothing; what ceased while we were away
// ends.
func TestRulesAcrossRestarts(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		full := []*rules.Alert{w.found("capacity", 1), w.found("capacity", 2)}
		w.evaluate(10*time.Minute, full...)
		w.expect(dinas, "[Kapasitas] 2 desa")
		for range 3 {
			w.stop()
			time.Sleep(time.Minute)
			w.start()
			w.evaluate(10*time.Minute, full...)
		}
		w.expect(dinas, "[Kapasitas] 2 desa")
		w.stop()
		time.Sleep(time.Hour)
		w.start()
		w.evaluate(40 * time.Minute)
		w.expect(dinas, "[Kapasitas] 2 desa", "[Pulih] 2 desa")
		w.stop()
	})
}

// While a village is cut off, rules about it are quiet; and all of them while it is
// we who are cut off.
func TestOpenIncidentsMuteRules(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		w.sever(41, 48)
		w.pass(5 * time.Minute)
		w.evaluate(20*time.Minute, w.found("quality", 41), w.found("quality", 1))
		w.expect(dinas, "[Gangguan] 8", "[Mutu menurun] Desa "+w.name(1))
	})
}

func TestSilencedRules(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		site, _ := w.inv.Load().Site("s1", time.Now())
		if _, err := w.service.Silence(t.Context(), Silence{By: ByVillage, Of: site.Village, Author: "uji", Reason: "lomba", Until: time.Now().Add(3 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		a := w.found("capacity", 1)
		w.evaluate(time.Hour, a)
		w.expect(dinas)
		resolve(a)
		w.evaluate(4*time.Hour, a)
		w.expect(dinas)
	})
}

// One place with a surge has the mail that shows it; several are a list.
func TestSpikes(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		one := w.found("spike", 1)
		one.Annotations = labels.FromStrings("ringkasan", "Pemakaian 2,4 kali biasanya.", "value", "2.4")
		w.evaluate(10*time.Minute, one)
		w.expect(dinas, "[Lonjakan] Pemakaian "+w.name(1)+" 2,4 kali biasanya sejak")
		resolve(one)
		w.evaluate(10*time.Minute, one)
		w.expect(dinas, "[Lonjakan]", "[Pulih] Pemakaian "+w.name(1)+" kembali biasa")
		w.evaluate(10*time.Minute, w.found("spike", 1), w.found("spike", 20))
		w.expect(dinas, "[Lonjakan]", "[Pulih]", "[Lonjakan] 2 desa dengan lonjakan pemakaian di 2 kec.")
		for _, m := range w.letters(dinas) {
			if strings.Contains(m.subject+m.text, "NaN") || strings.Contains(m.text, "belum diketahui Mbps") {
				t.Errorf("%s\n%s", m.subject, m.text)
			}
		}
	})
}

func (w *world) name(n int) string {
	site, _ := w.inv.Load().Site(siteID(n), time.Now())
	v, _ := w.inv.Load().Village(site.Village)
	return v.Name
}
