package doctor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/push"
	"github.com/pantau-desa/pantau/probe/wire"
)

// defaultPort is the collector's, TCP and UDP.
const defaultPort = "7443"

// pathHeartbeat takes a heartbeat over HTTPS. It answers what a datagram cannot:
// why the collector does not want this probe.
const pathHeartbeat = "/v1/heartbeat"

func (p *patient) dns(ctx context.Context) Finding {
	u, ok := p.address()
	if !ok {
		return p.unknown(DNS)
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return skipped(DNS, say("kolektor dipanggil dengan alamat (%s), nama tidak diperlukan", "the collector is called by its address (%s), no name is needed", host))
	}
	ctx, cancel := context.WithTimeout(ctx, p.opt.Patience)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return bad(DNS, say("nama kolektor %s tidak ditemukan: %v", "the collector's name %s is not found: %v", host, err),
			say("periksa DNS di /etc/resolv.conf dan sambungan ke router; bila kolektor pindah nama, daftarkan lagi", "look at the DNS in /etc/resolv.conf and at the line to the router; if the collector has another name now, enrol again"))
	}
	return good(DNS, say("%s adalah %v", "%s is %v", host, addrs[0].Unmap()))
}

// fill says in a heartbeat what was found so far.
func (p *patient) fill(b *wire.Heartbeat) {
	b.Health = p.health
	b.ConfigVersion, _ = wire.ConfigVersion(p.config) // unknown: the collector offers its own
}

// collector asks over TCP and TLS, with a heartbeat that proves the key.
func (p *patient) collector(ctx context.Context) Finding {
	u, ok := p.address()
	if !ok {
		return p.unknown(Collector)
	}
	ctx, cancel := context.WithTimeout(ctx, p.opt.Patience)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: push.PinnedTLS(p.id.CA, p.time.Floor)}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var status int
	var answer string
	var err error
	for range 2 { // the running probe's own beat may overtake ours: 409
		if status, answer, err = p.post(ctx, client); err != nil || status != http.StatusConflict {
			break
		}
	}
	if err != nil {
		return p.noCollector(u, err)
	}
	switch status {
	case http.StatusOK:
		return good(Collector, say("%s menjawab (TCP, TLS 1.3, sertifikat yang benar) dan mengenal probe ini", "%s answers (TCP, TLS 1.3, the right certificate) and knows this probe", u.Host))
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		p.refused = true
		return bad(Collector, say("%s menolak probe ini: %s", "%s refuses this probe: %s", u.Host, answer),
			say("tanyakan kepada pengelola (`pantau probe list`); bila perlu minta kode baru, pindahkan %s, lalu daftarkan lagi", "ask the operator (`pantau probe list`); if need be get a new code, move %s away and enrol again", p.opt.StateDir))
	}
	return bad(Collector, say("%s menjawab %d: %s", "%s answers %d: %s", u.Host, status, answer),
		say("coba lagi beberapa menit kemudian, lalu beri tahu pengelola", "try again in a few minutes, then tell the operator"))
}

// errNoAnswer says that a heartbeat was taken and not acknowledged.
var errNoAnswer = errors.New("no acknowledgement")

// post sends one heartbeat and learns the collector's time from its answer.
func (p *patient) post(ctx context.Context, client *http.Client) (status int, answer string, err error) {
	r := p.clocks.Now()
	b := wire.Heartbeat{Probe: p.id.Probe, Boot: r.Boot, Counter: uint64(r.Mono), Mono: r.Mono, Wall: r.Wall}
	p.fill(&b)
	body, err := b.Marshal(p.id.HeartbeatKey)
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.id.Collector+pathHeartbeat, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 300))
	if err != nil {
		return 0, "", err
	}
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, oneLine(raw), nil
	}
	ack, err := wire.ParseHeartbeatAck(raw, p.id.HeartbeatKey, p.id.Probe, r.Boot)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	// The connection was made in between: the time since is not half a way.
	p.learn(ack.CollectorTime, clock.Mono())
	return resp.StatusCode, "", nil
}

func (p *patient) learn(collector time.Time, asked time.Duration) {
	p.time.Learn(collector, asked)
	p.told = true
}

// oneLine makes text of a stranger fit to be printed.
func oneLine(raw []byte) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(raw), ""))), " ")
}

// noCollector explains why there was no answer.
func (p *patient) noCollector(u *url.URL, err error) Finding {
	host := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
	var (
		name    *net.DNSError
		foreign x509.UnknownAuthorityError
		expired x509.CertificateInvalidError
		record  tls.RecordHeaderError
		remote  *net.OpError
	)
	switch {
	case errors.As(err, &name):
		return bad(Collector, say("nama %s tidak ditemukan", "the name %s is not found", u.Hostname()),
			say("perbaiki DNS lebih dulu", "mend DNS first"))
	case errors.As(err, &foreign):
		return bad(Collector, say("%s dijawab server lain: sertifikatnya bukan dari kolektor yang mendaftarkan kotak ini", "another server answers at %s: its certificate is not from the collector that enrolled this box", host),
			say("periksa apakah ada proxy atau halaman masuk (captive portal) di jaringan ini; bila kolektor dipasang ulang, daftarkan lagi", "look for a proxy or a sign-in page (captive portal) in this network; if the collector was set up anew, enrol again"))
	case errors.As(err, &expired):
		return bad(Collector, say("sertifikat %s tidak berlaku menurut jam kotak ini: %v", "by this box's clock the certificate of %s is not valid: %v", host, expired),
			say("perbaiki jam kotak ini (NTP); bila jamnya benar, beri tahu pengelola", "correct this box's clock (NTP); if it is right, tell the operator"))
	case errors.Is(err, errNoAnswer):
		return bad(Collector, say("%s menjawab, tetapi bukan seperti kolektor: %v", "%s answers, but not as a collector does: %v", host, err),
			say("perbarui pantau-probe, atau beri tahu pengelola", "update pantau-probe, or tell the operator"))
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record), errors.As(err, &remote) && remote.Op == "remote error": // an alert: no TLS 1.3
		return bad(Collector, say("yang menjawab di %s bukan kolektor (tanpa TLS 1.3): %v", "what answers at %s is no collector (no TLS 1.3): %v", host, err),
			say("periksa alamat dan apakah ada proxy di jaringan ini", "look at the address, and for a proxy in this network"))
	case errors.Is(err, syscall.ECONNREFUSED):
		return bad(Collector, say("%s menolak sambungan TCP", "%s refuses the TCP connection", host),
			say("kolektor tidak berjalan atau pindah alamat: beri tahu pengelola", "the collector does not run or has moved: tell the operator"))
	case isTimeout(err):
		return bad(Collector, say("%s tidak menjawab lewat TCP", "%s does not answer by TCP", host),
			say("periksa jaringan; firewall harus melewatkan TCP ke %s", "look at the network; the firewall must let TCP to %s pass", host))
	}
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err // without method and address, which are said already
	}
	return bad(Collector, say("%s tidak terjangkau: %v", "%s cannot be reached: %v", host, err),
		say("periksa kabel, router, dan rute (`ip route`)", "look at the cable, the router and the routes (`ip route`)"))
}

// heartbeat sends a datagram as the running probe does, with all its tries.
func (p *patient) heartbeat(ctx context.Context) Finding {
	u, ok := p.address()
	if !ok {
		return p.unknown(Heartbeat)
	}
	if p.refused {
		return skipped(Heartbeat, say("kolektor menolak probe ini", "the collector refuses this probe"))
	}
	addr := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), defaultPort))
	ctx, cancel := context.WithTimeout(ctx, p.opt.Patience)
	defer cancel()
	answered := false // written by Acked and read after Run, both in this goroutine
	h := push.NewHeart(push.HeartbeatOptions{Probe: p.id.Probe, Key: p.id.HeartbeatKey, Addr: addr, Time: p.time,
		Interval: func() time.Duration { return time.Hour }, Fill: p.fill,
		Acked:  func(bool, uint64) { answered = true; p.told = true; cancel() },
		Dial:   new(net.Dialer).DialContext,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	began := time.Now()
	if err := h.Run(ctx); err != nil {
		return bad(Heartbeat, say("denyut tidak dapat dikirim: %v", "no heartbeat can be sent: %v", err), say("beri tahu pengelola", "tell the operator"))
	}
	if !answered {
		return bad(Heartbeat, say("denyut lewat UDP ke %s tidak dijawab", "heartbeats by UDP to %s are not answered", addr),
			say("firewall dan router harus melewatkan UDP ke %s, dan jawabannya kembali", "firewall and router must let UDP to %s pass, and its answer back", addr))
	}
	return good(Heartbeat, say("denyut lewat UDP dijawab dalam %v", "a heartbeat by UDP is answered within %v", time.Since(began).Round(time.Millisecond)))
}

// maxTargets bounds how many measurement servers are asked.
const maxTargets = 8

// targets asks each measurement server for its shortest page, as a speed test
// does before it moves anything.
func (p *patient) targets(ctx context.Context) []Finding {
	if p.id == nil {
		return []Finding{p.unknown(Target)}
	}
	all := p.config.GetSpeedTargets()
	if len(all) == 0 {
		return []Finding{skipped(Target, say("kolektor belum memberi server ukur: kecepatan tidak diukur", "the collector names no measurement server yet: speed is not measured"))}
	}
	ctx, cancel := context.WithTimeout(ctx, p.opt.Patience)
	defer cancel()
	var out []Finding
	for _, t := range all[:min(len(all), maxTargets)] {
		began := time.Now()
		if err := preflight(ctx, t.Url); err != nil {
			out = append(out, bad(Target, say("server ukur %s (%s) tidak dapat dipakai: %v", "measurement server %s (%s) cannot be used: %v", t.Id, t.Url, err),
				say("periksa jaringan dan firewall ke alamat itu; bila tetap, beri tahu pengelola", "look at the network and the firewall to that address; if it stays, tell the operator")))
			continue
		}
		out = append(out, good(Target, say("server ukur %s menjawab dalam %v", "measurement server %s answers within %v", t.Id, time.Since(began).Round(time.Millisecond))))
	}
	return out
}

// preflight asks for latency.txt. A redirect is what a sign-in page answers.
func preflight(ctx context.Context, base string) error {
	u, err := url.Parse(base)
	if err != nil {
		return err
	}
	if strings.HasSuffix(u.Path, "/upload.php") {
		u.Path = path.Dir(u.Path)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/speedtest"
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("latency.txt").String(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		if isTimeout(err) {
			return errors.New(string(measure.ReasonTimeout))
		}
		return errors.Unwrap(err) // without method and address, which are said already
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64))
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(raw)) != "test=test" {
		return fmt.Errorf("%s: latency.txt: %.40q", measure.ReasonNoServer, oneLine(raw))
	}
	return nil
}
