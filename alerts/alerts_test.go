package alerts

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/alerts/outbox/smtptest"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Forty villages fall by one node: one mail for each contact, one thread, and one
// more when they are back.
func TestFortyVillagesAreOneMail(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		w.sever(1, 40)
		w.pass(10 * time.Minute)
		w.expect(dinas, "[Gangguan] 40 desa di 3 kec. putus")
		w.expect(second, "[Outage] 40 villages in 3 districts cut off")
		w.expect(province, "[Gangguan] 40 desa di 3 kec. putus")
		w.heal()
		w.pass(20 * time.Minute)
		w.expect(dinas, "[Gangguan] 40 ", "[Pulih] 40 ")
		w.expect(second, "[Outage] 40 ", "[Recovered] 40 ")
		w.expect(province, "[Gangguan] 40 ", "[Pulih] 40 ")
		w.expect(ops)
		m := w.letters(dinas)
		if m[1].references != m[0].id || m[0].references != "" || !strings.HasPrefix(m[0].id, "<G-3310-000101-01-opened-1-33-10.") {
			t.Errorf("ids %s and %s, references %q", m[0].id, m[1].id, m[1].references)
		}
		for _, want := range []string{"Dugaan letak    ODC-1, ODC Contoh 1", "Telepon +62 21 0000 0000", "https://pantau.example.id/gangguan/G-3310-000101-01",
			"- 40 titik ukur berhenti dalam 9 detik", "[putus] ODC-1, ODC Contoh 1: 40 dari 40 titik ukur diam.", "20 titik ukur lain di bawah OLT-1 tetap tersambung",
			"Listrik padam serentak belum dapat dikesampingkan", "40 desa, 40.820 jiwa", "kepada Diskominfo Kabupaten Klaten"} {
			if !strings.Contains(m[0].text, want) {
				t.Errorf("the first mail lacks %q:\n%s", want, m[0].text)
			}
		}
		for _, want := range []string{"Penyebab akhir  belum pasti", "Dugaan awal     ODC atau kabel feeder, ODC-1", "Email pertama", "Catatan alat dari 40 desa belum diterima"} {
			if !strings.Contains(m[1].text, want) {
				t.Errorf("the last mail lacks %q:\n%s", want, m[1].text)
			}
		}
	})
}

// What is small is for the dinas alone; when it grows large the province hears of
// it, as of something new, and of its end.
func TestProvince(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		w.sever(41, 48)
		w.pass(4 * time.Minute)
		w.expect(dinas, "[Gangguan] 8 desa")
		w.expect(province)
		w.sever(1, 40)
		w.pass(10 * time.Minute)
		w.expect(dinas, "[Gangguan] 8 desa", "[Meluas] 48 desa")
		w.expect(province, "[Gangguan] 48 desa")
		if m := w.letters(dinas)[1]; !strings.Contains(m.text, "semula 8 desa") || strings.Count(m.text, "(baru)") != 40 {
			t.Errorf("the widening reads\n%s", m.text)
		}
		w.heal()
		w.pass(20 * time.Minute)
		w.expect(dinas, "[Gangguan] 8", "[Meluas] 48", "[Pulih] 48")
		w.expect(province, "[Gangguan] 48", "[Pulih] 48")
	})
}

// What is wrong with ourselves is nobody's business but our own.
func TestOurs(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		w.uplink = wire.No
		w.sever(1, 60)
		w.pass(15 * time.Minute)
		w.uplink = wire.Yes
		w.heal()
		w.pass(30 * time.Minute)
		w.expect(dinas)
		w.expect(second)
		w.expect(province)
		w.expect(ops, "[Pemantauan] ", "[Pulih] ")
		if m := w.letters(ops)[0]; !strings.Contains(m.text, "Periksa jalur internet") {
			t.Errorf("operations are told\n%s", m.text)
		}
	})
}

// A silence on a node mutes what breaks below it, for good: nothing comes late,
// and nobody hears of the end of what nobody heard of.
func TestSilencedNode(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		x, err := w.service.Silence(t.Context(), Silence{By: ByNode, Of: "OLT-1", Author: "uji", Reason: "kerja malam", Until: time.Now().Add(20 * time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		w.sever(1, 40)
		w.pass(40 * time.Minute)
		w.heal()
		w.pass(30 * time.Minute)
		for _, to := range []string{dinas, second, province, ops} {
			w.expect(to)
		}
		muted, err := w.service.Muted(10)
		if err != nil || len(muted) != 2 || !slices.Equal(muted[0].Silences, []string{x.ID}) {
			t.Errorf("muted %+v, %v", muted, err)
		}
		w.sever(41, 48)
		w.pass(10 * time.Minute)
		w.expect(dinas, "[Gangguan] 8 desa")
	})
}

// A silence of a place mutes what lies in it alone.
func TestSilencedPlace(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		if _, err := w.service.Silence(t.Context(), Silence{By: ByDistrict, Of: "33.10.03", Author: "uji", Reason: "listrik", Until: time.Now().Add(5 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		w.sever(41, 48) // all of them in 33.10.03
		w.pass(4 * time.Minute)
		w.expect(dinas)
		w.sever(1, 40) // elsewhere too: it is the first that they hear of it
		w.pass(10 * time.Minute)
		w.expect(dinas, "[Gangguan] 48 desa")
	})
}

// A process that is stopped and started at any step tells the same, once.
func TestStoppedAndStarted(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		again := func() {
			if w.service != nil {
				w.stop()
			}
			w.start()
		}
		again()
		w.pass(4 * time.Minute)
		w.sever(1, 40)
		w.stop()
		w.pass(10 * time.Minute) // the engine has it, nobody was told
		w.expect(dinas)
		again()
		w.pass(time.Minute)
		w.expect(dinas, "[Gangguan] 40")
		again()
		w.pass(time.Minute)
		w.heal()
		w.pass(time.Minute)
		again()
		w.stop()
		w.pass(20 * time.Minute)
		again()
		w.pass(time.Minute)
		again()
		w.pass(time.Minute)
		w.expect(dinas, "[Gangguan] 40", "[Pulih] 40")
		w.expect(province, "[Gangguan] 40", "[Pulih] 40")
		w.stop()
	})
}

// What was there before the first start, and what is older than a day, is not told.
func TestOldNews(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.pass(4 * time.Minute)
		w.sever(41, 48)
		w.pass(10 * time.Minute)
		w.start()
		w.heal()
		w.pass(20 * time.Minute)
		w.expect(dinas)
		w.stop()
		w.sever(1, 40)
		w.pass(10 * time.Minute)
		time.Sleep(25 * time.Hour)
		w.start()
		w.pass(time.Minute)
		w.expect(dinas)
		w.stop()
	})
}

// One recipient of three does not exist: the others get theirs.
func TestRefusedRecipient(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	server.Behave(func(_, to string) smtptest.Fault {
		if to == second {
			return smtptest.RefuseRecipient
		}
		return smtptest.None
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		w.sever(1, 40)
		w.pass(10 * time.Minute)
		w.expect(dinas, "[Gangguan] 40")
		w.expect(province, "[Gangguan] 40")
		list, err := w.service.Mails(100)
		if err != nil || len(list) != 3 {
			t.Fatalf("%+v, %v", list, err)
		}
		for _, m := range list {
			if refused := m.State == outbox.Refused; refused != (m.Recipient == second) || refused && !strings.Contains(m.Detail, "No such user") {
				t.Errorf("%+v", m)
			}
		}
	})
}

// The mail server is away for an hour: all goes out afterwards, in order.
func TestServerAwayForAnHour(t *testing.T) {
	server, inv, do := smtpServer(t), network(t, 60, contacts), outside(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		do(server.Down)
		w.sever(1, 40)
		w.pass(20 * time.Minute)
		w.heal()
		w.pass(40 * time.Minute)
		w.expect(dinas)
		do(func() {
			if err := server.Up(); err != nil {
				t.Error(err)
			}
		})
		w.pass(61 * time.Minute)
		w.expect(dinas, "[Gangguan] 40", "[Pulih] 40")
		w.expect(province, "[Gangguan] 40", "[Pulih] 40")
	})
}

// The connection drops once after DATA: one mail comes twice, and is the same.
func TestDroppedAfterData(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	drops := 0
	server.Behave(func(_, to string) smtptest.Fault {
		if to == dinas && drops < 2 { // asked at RCPT and after the data
			if drops++; drops == 2 {
				return smtptest.DropTaken
			}
		}
		return smtptest.None
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		w.sever(1, 40)
		w.pass(15 * time.Minute)
		w.expect(dinas, "[Gangguan] 40", "[Gangguan] 40")
		w.expect(second, "[Outage] 40")
		if m := w.letters(dinas); !bytes.Equal(m[0].raw, m[1].raw) {
			t.Error("the repetition differs")
		}
	})
}

// New contacts are told from then on; who was not told of the trouble is not told
// of its end.
func TestContactsChange(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	more := network(t, 60, contacts+"baru@klaten.example.id;dinas;33.10;Kantor Baru;;;1990-01-01;\n")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		w.sever(41, 48)
		w.pass(10 * time.Minute)
		w.inv.Store(more)
		w.pass(time.Minute)
		w.heal()
		w.pass(20 * time.Minute)
		w.expect(dinas, "[Gangguan] 8", "[Pulih] 8")
		w.expect("baru@klaten.example.id")
		w.sever(1, 40)
		w.pass(10 * time.Minute)
		w.expect("baru@klaten.example.id", "[Gangguan] 40")
	})
}

// Without contacts the events are settled all the same.
func TestNobody(t *testing.T) {
	none, _, _ := strings.Cut(contacts, "\n")
	server, inv := smtpServer(t), network(t, 60, none+"\n")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		w.sever(1, 40)
		w.pass(10 * time.Minute)
		if seq, _, err := w.service.ledger.Seq(); err != nil || seq == 0 {
			t.Errorf("settled up to %d, %v", seq, err)
		}
		if n := len(w.server.Mails()); n != 0 {
			t.Errorf("%d mails", n)
		}
	})
}

// What comes and goes is told once.
func TestUnstable(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.start()
		defer w.end()
		w.pass(4 * time.Minute)
		for range 6 {
			w.sever(41, 48)
			w.pass(200 * time.Second)
			w.heal()
			w.pass(90 * time.Second)
		}
		w.pass(90 * time.Minute)
		w.expect(dinas, "[Gangguan] 8", "[Tidak stabil] 8", "[Pulih] 8")
	})
}
