package snmp

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/pantau-desa/pantau/configs/secret"
	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
	"github.com/pantau-desa/pantau/probe/instrument/snmp/snmpdtest"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

const table = "1.3.6.1.4.1.99999.1"

func dial(t *testing.T, a Access) *Session {
	t.Helper()
	s, err := Dial(t.Context(), a, ledger.New(ledger.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func by2c(address string) Access { return Access{Address: address, Community: snmpdtest.Community} }

func TestEverySort(t *testing.T) {
	agent := snmpdtest.Start(t, []string{table})
	agent.Set(snmpdtest.Object{OID: table + ".1.0", Sort: "integer", Value: "-21340"},
		snmpdtest.Object{OID: table + ".2.0", Sort: "gauge", Value: "4294967295"},
		snmpdtest.Object{OID: table + ".3.0", Sort: "counter", Value: "4294967290"},
		snmpdtest.Object{OID: table + ".4.0", Sort: "counter64", Value: "18446744073709551610"},
		snmpdtest.Object{OID: table + ".5.0", Sort: "timeticks", Value: "360000"},
		snmpdtest.Object{OID: table + ".6.0", Sort: "string", Value: "pppoe-wan"})
	s := dial(t, by2c(agent.Address))
	oids := []string{}
	for i := 1; i <= 7; i++ {
		oids = append(oids, fmt.Sprintf("%s.%d.0", table, i))
	}
	vs, err := s.Get(oids...)
	if err != nil {
		t.Fatal(err)
	}
	integer, ok1 := vs[0].Integer()
	gauge, ok2 := vs[1].Gauge()
	c32, ok3 := vs[2].Counter32()
	c64, ok4 := vs[3].Counter64()
	ticks, ok5 := vs[4].Ticks()
	text, ok6 := vs[5].Text()
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 {
		t.Errorf("%v %v %v %v %v %v", ok1, ok2, ok3, ok4, ok5, ok6)
	}
	if integer != -21340 || gauge != 4294967295 || c32 != 4294967290 || c64 != 18446744073709551610 || ticks != 360000 || text != "pppoe-wan" {
		t.Errorf("%v %v %v %v %v %q", integer, gauge, c32, c64, ticks, text)
	}
	if !vs[6].Missing() || vs[0].Missing() {
		t.Error("an object that is not there is not missing")
	}
	if _, ok := vs[2].Counter64(); ok {
		t.Error("a counter of 32 bits is taken for one of 64")
	}
	if _, ok := vs[6].Integer(); ok {
		t.Error("what is missing has a value")
	}
	if rx, tx := s.Close(); rx < 150 || tx < 150 || rx > 600 || tx > 600 {
		t.Errorf("%d bytes received, %d sent", rx, tx)
	}
}

func TestWalk(t *testing.T) {
	agent := snmpdtest.Start(t, []string{table})
	var objects []snmpdtest.Object
	for i := range 40 {
		objects = append(objects, snmpdtest.Object{OID: fmt.Sprintf("%s.1.2.%d", table, 3*i), Sort: "string", Value: fmt.Sprintf("eth%d", i)})
	}
	agent.Set(append(objects, snmpdtest.Object{OID: table + ".1.3.0", Sort: "integer", Value: "1"})...)
	s := dial(t, by2c(agent.Address))
	rows, err := s.Walk(table+".1.2", 40)
	if err != nil || len(rows) != 40 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, r := range rows {
		if name, _ := r.Value.Text(); r.Index != fmt.Sprint(3*i) || name != fmt.Sprintf("eth%d", i) {
			t.Errorf("row %d: %q %q", i, r.Index, name)
		}
	}
	if rows, err := s.Walk(table+".1.3", 40); err != nil || len(rows) != 1 || rows[0].Index != "0" {
		t.Errorf("%v, %v", rows, err)
	}
	if rows, err := s.Walk(table+".7", 40); err != nil || len(rows) != 0 {
		t.Errorf("%v, %v", rows, err)
	}
	if _, err := s.Walk(table+".1.2", 39); ReasonOf(err) != measure.ReasonMalformed {
		t.Errorf("more rows than asked for: %v", err)
	}
}

// Who may not ask is told so where the protocol can tell.
func TestAccess(t *testing.T) {
	agent := snmpdtest.Start(t, nil)
	v3 := func(user, auth, password, privacy, key string) Access {
		return Access{Address: agent.Address, Version: "3", User: user, Auth: auth, AuthPassword: secret.Text(password), Privacy: privacy, PrivacyPassword: secret.Text(key)}
	}
	wrong := by2c(agent.Address)
	wrong.Community = "lain"
	for _, c := range []struct {
		name   string
		access Access
		reason measure.Reason
	}{
		{"2c", by2c(agent.Address), ""},
		{"3, auth", v3("auth", "sha", snmpdtest.AuthPassword, "", ""), ""},
		{"3, auth and privacy", v3("both", "sha", snmpdtest.AuthPassword, "aes", snmpdtest.PrivacyPassword), ""},
		{"3, SHA-256", v3("strong", "sha256", snmpdtest.AuthPassword, "aes", snmpdtest.PrivacyPassword), ""},
		{"another community", wrong, measure.ReasonTimeout}, // the protocol has no word for it
		{"another user", v3("nobody", "sha", snmpdtest.AuthPassword, "", ""), measure.ReasonPermission},
		{"another password", v3("auth", "sha", "bukan-kata-sandi", "", ""), measure.ReasonPermission},
		{"another protocol", v3("auth", "md5", snmpdtest.AuthPassword, "", ""), measure.ReasonPermission},
		{"without auth", v3("auth", "", "", "", ""), measure.ReasonPermission},
		{"without privacy", v3("both", "sha", snmpdtest.AuthPassword, "", ""), measure.ReasonPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := dial(t, c.access)
			vs, err := s.Get("1.3.6.1.2.1.1.3.0")
			if c.reason != "" {
				if err == nil || ReasonOf(err) != c.reason {
					t.Fatalf("%v (%s), want %s", err, ReasonOf(err), c.reason)
				}
				for _, secret := range []string{snmpdtest.AuthPassword, snmpdtest.PrivacyPassword, "lain", "bukan-kata-sandi"} {
					if strings.Contains(err.Error(), secret) && secret != "lain" {
						t.Errorf("the error tells a secret: %v", err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if ticks, ok := vs[0].Ticks(); !ok || ticks == 0 {
				t.Errorf("up for %v, %v", ticks, ok)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := dial(t, by2c(conn.LocalAddr().String())).Get("1.3.6.1.2.1.1.3.0"); ReasonOf(err) != measure.ReasonRefused {
		t.Errorf("%v (%s)", err, ReasonOf(err))
	}
	if _, err := Dial(t.Context(), Access{}, ledger.New(ledger.Options{})); ReasonOf(err) != measure.ReasonNoTarget {
		t.Errorf("%v (%s)", err, ReasonOf(err))
	}
}

func TestNoWay(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	s, err := Dial(t.Context(), by2c("192.168.1.1"), ledger.New(ledger.Options{}))
	if err == nil {
		_, err = s.Get("1.3.6.1.2.1.1.3.0")
	}
	if ReasonOf(err) != measure.ReasonUnreachable {
		t.Errorf("%v (%s)", err, ReasonOf(err))
	}
}

// stranger answers each datagram with what reply makes of the request.
func stranger(t *testing.T, reply func(request *gosnmp.SnmpPacket, raw []byte) []byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			decoder := &gosnmp.GoSNMP{Version: gosnmp.Version2c, Community: snmpdtest.Community}
			request, err := decoder.SnmpDecodePacket(buf[:n])
			if err != nil {
				request = &gosnmp.SnmpPacket{}
			}
			if answer := reply(request, buf[:n]); answer != nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// says is an answer with these variables.
func says(request *gosnmp.SnmpPacket, err gosnmp.SNMPError, vars ...gosnmp.SnmpPDU) []byte {
	p := *request
	p.PDUType, p.Error, p.Variables = gosnmp.GetResponse, err, vars
	p.NonRepeaters, p.MaxRepetitions = 0, 0
	raw, e := p.MarshalMsg()
	if e != nil {
		panic(e)
	}
	return raw
}

func TestHostileAnswers(t *testing.T) {
	const asked = "1.3.6.1.2.1.1.3.0"
	ticks := gosnmp.SnmpPDU{Name: "." + asked, Type: gosnmp.TimeTicks, Value: uint32(7)}
	other := ticks
	other.Name = ".1.3.6.1.2.1.1.4.0"
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name   string
		reply  func(*gosnmp.SnmpPacket, []byte) []byte
		reason measure.Reason
	}{
		{"honest", func(r *gosnmp.SnmpPacket, _ []byte) []byte { return says(r, gosnmp.NoError, ticks) }, ""},
		{"another object", func(r *gosnmp.SnmpPacket, _ []byte) []byte { return says(r, gosnmp.NoError, other) }, measure.ReasonMalformed},
		{"two for one", func(r *gosnmp.SnmpPacket, _ []byte) []byte { return says(r, gosnmp.NoError, ticks, ticks) }, measure.ReasonMalformed},
		{"none", func(r *gosnmp.SnmpPacket, _ []byte) []byte { return says(r, gosnmp.NoError) }, measure.ReasonMalformed},
		{"not allowed", func(r *gosnmp.SnmpPacket, _ []byte) []byte { return says(r, gosnmp.AuthorizationError, ticks) }, measure.ReasonPermission},
		{"too big", func(r *gosnmp.SnmpPacket, _ []byte) []byte { return says(r, gosnmp.TooBig, ticks) }, measure.ReasonOther},
		{"the request itself", func(_ *gosnmp.SnmpPacket, raw []byte) []byte { return raw }, measure.ReasonMalformed},
		{"text", func(*gosnmp.SnmpPacket, []byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }, measure.ReasonMalformed},
		{"half", func(r *gosnmp.SnmpPacket, _ []byte) []byte { return says(r, gosnmp.NoError, ticks)[:20] }, measure.ReasonMalformed},
		{"a length that lies", func(*gosnmp.SnmpPacket, []byte) []byte { return []byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2, 1, 1} }, measure.ReasonMalformed},
		{"noise", func(*gosnmp.SnmpPacket, []byte) []byte {
			b := make([]byte, 300)
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			return b
		}, measure.ReasonMalformed},
		{"another's answer", func(r *gosnmp.SnmpPacket, _ []byte) []byte {
			p := *r
			p.RequestID += 1000
			return says(&p, gosnmp.NoError, ticks)
		}, measure.ReasonTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			_, err := dial(t, by2c(stranger(t, c.reply))).Get(asked)
			if c.reason == "" && err != nil || c.reason != "" && (err == nil || ReasonOf(err) != c.reason) {
				t.Errorf("%v (%s), want %s", err, ReasonOf(err), c.reason)
			}
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestTablesWithoutEnd(t *testing.T) {
	t.Parallel()
	var row atomic.Int32
	endless := stranger(t, func(r *gosnmp.SnmpPacket, _ []byte) []byte {
		var vars []gosnmp.SnmpPDU
		for range MaxObjects {
			vars = append(vars, gosnmp.SnmpPDU{Name: fmt.Sprintf(".%s.1.%d", table, row.Add(1)), Type: gosnmp.OctetString, Value: "x"})
		}
		return says(r, gosnmp.NoError, vars...)
	})
	if _, err := dial(t, by2c(endless)).Walk(table+".1", 100); ReasonOf(err) != measure.ReasonMalformed || row.Load() > 200 {
		t.Errorf("%v after %d rows", err, row.Load())
	}
	circle := stranger(t, func(r *gosnmp.SnmpPacket, _ []byte) []byte {
		return says(r, gosnmp.NoError, gosnmp.SnmpPDU{Name: "." + table + ".1.5", Type: gosnmp.OctetString, Value: "x"})
	})
	if _, err := dial(t, by2c(circle)).Walk(table+".1", 100); ReasonOf(err) != measure.ReasonMalformed || !strings.Contains(err.Error(), "goes back") {
		t.Errorf("%v", err)
	}
}

// FuzzAnswer puts arbitrary bytes in the place of an answer.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2, 1, 1})
	f.Add([]byte{0x30, 3, 2, 1, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		g := &gosnmp.GoSNMP{Version: gosnmp.Version2c}
		func() {
			defer func() { _ = recover() }() // as the client does
			p, err := g.SnmpDecodePacket(raw)
			if err != nil {
				return
			}
			for _, v := range p.Variables {
				_, _ = read(v)
			}
		}()
	})
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	silent := stranger(t, func(*gosnmp.SnmpPacket, []byte) []byte { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s, err := Dial(ctx, by2c(silent), ledger.New(ledger.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begun := time.Now()
	if _, err := s.Get("1.3.6.1.2.1.1.3.0"); ReasonOf(err) != measure.ReasonTimeout || time.Since(begun) > patience {
		t.Errorf("%v (%s) after %v", err, ReasonOf(err), time.Since(begun))
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	a := Access{Address: "192.168.1.1", Community: "rahasia-1", AuthPassword: "rahasia-2", PrivacyPassword: "rahasia-3"}
	asJSON, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "a", a, "c", a.Community)
	wrapped := struct {
		A *Access
		B []secret.Text
	}{&a, []secret.Text{"rahasia-4"}}
	for _, s := range []string{string(asJSON), logged.String(), fmt.Sprint(a), fmt.Sprintf("%v %+v %#v %s %q %x %d", a, a, a, a, a.Community, a.Community, a.Community),
		fmt.Sprintf("%+v %#v", wrapped.B, wrapped.B), fmt.Sprint(a.Check())} {
		if strings.Contains(s, "rahasia") || strings.Contains(s, fmt.Sprintf("%x", "rahasia")) {
			t.Errorf("shown: %s", s)
		}
	}
	if fmt.Sprint(secret.Text("")) != "" || fmt.Sprint(a.Community) != "***" {
		t.Error("a secret that is there looks like one that is not")
	}
}

func TestCheck(t *testing.T) {
	good := Access{Address: "[fe80::1%eth0]:1161", Version: "3", User: "u", Auth: "sha256", AuthPassword: "12345678", Privacy: "aes", PrivacyPassword: "12345678"}
	for _, c := range []struct {
		name  string
		a     Access
		wrong string // keys, sorted
	}{
		{"good, 3", good, ""},
		{"good, 2c", Access{Address: "192.168.1.1", Community: "public"}, ""},
		{"nothing", Access{}, "address community"},
		{"a name", Access{Address: "router.lan", Community: "public"}, "address"},
		{"port 0", Access{Address: "192.168.1.1:0", Community: "public"}, "address"},
		{"version 1", Access{Address: "192.168.1.1", Version: "1"}, "version"},
		{"both", Access{Address: "192.168.1.1", Community: "public", User: "u", AuthPassword: "12345678"}, "auth_password user"},
		{"community for 3", Access{Address: "192.168.1.1", Version: "3", User: "u", Community: "public"}, "community"},
		{"no user", Access{Address: "192.168.1.1", Version: "3"}, "user"},
		{"short passwords", Access{Address: "192.168.1.1", Version: "3", User: "u", Auth: "sha", AuthPassword: "1234567", Privacy: "aes"}, "auth_password privacy_password"},
		{"unknown protocols", Access{Address: "192.168.1.1", Version: "3", User: "u", Auth: "crc", Privacy: "rot13"}, "auth privacy"},
		{"privacy alone", Access{Address: "192.168.1.1", Version: "3", User: "u", Privacy: "aes", PrivacyPassword: "12345678"}, "privacy"},
		{"password alone", Access{Address: "192.168.1.1", Version: "3", User: "u", AuthPassword: "12345678"}, "auth_password"},
	} {
		var keys []string
		for k, what := range c.a.Check() {
			if what == "" {
				t.Errorf("%s: nothing is said of %s", c.name, k)
			}
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if got := strings.Join(keys, " "); got != c.wrong {
			t.Errorf("%s: %q, want %q", c.name, got, c.wrong)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	const asked = "1.3.6.1.2.1.1.3.0"
	good := stranger(t, func(r *gosnmp.SnmpPacket, _ []byte) []byte {
		return says(r, gosnmp.NoError, gosnmp.SnmpPDU{Name: "." + asked, Type: gosnmp.TimeTicks, Value: uint32(7)})
	})
	l := ledger.New(ledger.Options{})
	nettest.Steady(t, 500, func() {
		for _, a := range []Access{by2c(good), by2c("127.0.0.1:1")} {
			s, err := Dial(t.Context(), a, l)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Get(asked)
			if rx, tx := s.Close(); (err == nil) != (a.Address == good) || tx == 0 || (rx == 0) != (err != nil) {
				t.Errorf("%s: %v, %d and %d bytes", a.Address, err, rx, tx)
			}
		}
	})
}
