package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/enroll"
	"github.com/pantau-desa/pantau/probe/instrument/latency"
	"github.com/pantau-desa/pantau/probe/instrument/optics"
	"github.com/pantau-desa/pantau/probe/instrument/router"
	"github.com/pantau-desa/pantau/probe/instrument/signal"
	"github.com/pantau-desa/pantau/probe/instrument/usage"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/push"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// identity looks at the state directory: it is there, it is enrolled, it belongs
// to one account and can be written.
func (p *patient) identity(context.Context) Finding {
	dir := p.opt.StateDir
	id, err := p.state.Identity()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return bad(Identity, say("%s tidak boleh dibaca oleh akun ini", "this account may not read %s", dir),
			say("jalankan dengan sudo, atau sebagai akun layanan itu", "run with sudo, or as the service's account"))
	case errors.Is(err, enroll.ErrNotEnrolled):
		return bad(Identity, say("kotak ini belum terdaftar (%s)", "this box is not enrolled (%s)", dir),
			say("minta kode ke pengelola (`pantau probe add`), lalu: pantau-probe enroll --collector URL --code KODE",
				"ask the operator for a code (`pantau probe add`), then: pantau-probe enroll --collector URL --code CODE"))
	case err != nil:
		return bad(Identity, say("identitas di %s rusak: %v", "the identity in %s is broken: %v", dir, err),
			say("pindahkan direktori itu, minta kode baru, lalu daftarkan lagi", "move that directory away, ask for a new code and enrol again"))
	}
	p.id = &id
	p.time = push.NewTimekeeper(p.clocks.Now, p.opt.Built, p.state.LastSeen(), id.EnrolledAt)
	if p.config, err = p.state.Config(); err != nil || p.config == nil {
		p.config = new(wirepb.ProbeConfig) // the collector will send it again
	}
	who := say("probe %[1]s di lokasi %[2]s", "probe %[1]s at site %[2]s", id.Probe, id.Site)
	if f, wrong := p.ownership(dir); wrong {
		return f
	}
	if err := writable(dir); err != nil {
		p.health |= wire.HealthSpool
		return bad(Identity, say("%s, tetapi %s tidak dapat ditulis: %v", "%s, but %s cannot be written: %v", string(id.Probe), dir, err),
			say("periksa pemilik direktori itu dan apakah disknya hanya-baca; bila layanan memakai akun lain, jalankan perintah ini dengan sudo",
				"look at that directory's owner and whether its disk is read-only; if the service has another account, run this with sudo"))
	}
	return good(Identity, who)
}

// ownership finds files that the directory's owner, as whom the service runs,
// cannot use, and secrets that others can read.
func (p *patient) ownership(dir string) (Finding, bool) {
	// The directory may be behind a symbolic link: systemd keeps it in private/.
	info, err := os.Stat(dir)
	if err != nil {
		return Finding{}, false // it was read a moment ago
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Finding{}, false
	}
	var found Finding
	_ = filepath.WalkDir(dir+"/.", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // a running probe replaces files
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case ok && st.Uid != owner.Uid:
			found = bad(Identity, say("%s milik akun lain (uid %d) daripada direktorinya (uid %d)", "%s belongs to another account (uid %d) than its directory (uid %d)", path, st.Uid, owner.Uid),
				say("sudo chown -R --reference=%[1]s/. %[1]s/.", "sudo chown -R --reference=%[1]s/. %[1]s/.", dir))
			return fs.SkipAll
		case secret(e.Name()) && info.Mode().Perm()&0o077 != 0:
			found = bad(Identity, say("%s dapat dibaca akun lain", "%s can be read by other accounts", path), say("sudo chmod 600 %s", "sudo chmod 600 %s", path))
			return fs.SkipAll
		}
		return nil
	})
	return found, found.Check != ""
}

// secret names the files that room enroll keeps to their owner.
func secret(name string) bool { return name == "key" || name == "identity.json" }

// writable tries it: a full or read-only disk is not seen in a file's mode.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".check-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString("pantau-probe check\n")
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

const (
	// leastRoom is what must be free, in bytes: six weeks of results of a village
	// that is cut off.
	leastRoom = 32 << 20
	// roomPerDay is what a day of results takes, in bytes: 256 MiB are about a year.
	roomPerDay = 256 << 20 / 365
)

// disk looks at the room for results that wait.
func (p *patient) disk(context.Context) Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(p.opt.StateDir, &st); err != nil {
		return skipped(Disk, say("%s tidak dapat diperiksa: %v", "%s cannot be looked at: %v", p.opt.StateDir, err))
	}
	if t := uint32(st.Type); t == unix.TMPFS_MAGIC || t == unix.RAMFS_MAGIC {
		return bad(Disk, say("%s ada di memori: identitas dan hasil hilang saat listrik padam", "%s is in memory: identity and results are gone with the power", p.opt.StateDir),
			say("pilih state_dir di flash atau disk, lalu daftarkan lagi dengan kode baru", "choose a state_dir on flash or disk, then enrol again with a new code"))
	}
	free := uint64(st.Bavail) * uint64(max(st.Bsize, 1))
	if free < leastRoom {
		return bad(Disk, say("hanya %d MB tersisa di %s", "only %d MB are left in %s", free/1_000_000, p.opt.StateDir),
			say("kosongkan disk sampai paling sedikit %d MB", "free some disk, %d MB at least", leastRoom/1_000_000))
	}
	if st.Files > 0 && st.Ffree < 100 {
		return bad(Disk, say("hampir tidak ada inode tersisa di %s (%d)", "almost no inodes are left in %s (%d)", p.opt.StateDir, st.Ffree),
			say("hapus berkas yang tidak perlu", "remove files that nobody needs"))
	}
	return good(Disk, say("%d MB bebas, cukup untuk %d hari tanpa jaringan", "%d MB free, enough for %d days without a network",
		free/1_000_000, min(free/roomPerDay, 365)))
}

// icmp asks this box itself, as the latency instrument asks a target.
func (p *patient) icmp(ctx context.Context) Finding {
	ctx, cancel := context.WithTimeout(ctx, p.opt.Patience)
	defer cancel()
	r := latency.New(latency.Options{Target: "self", Host: "127.0.0.1", Count: 2, Interval: 50 * time.Millisecond, Wait: time.Second}).Measure(ctx)
	if r.Reason == measure.ReasonPermission {
		p.health |= wire.HealthPermission
		return bad(ICMP, say("sistem tidak mengizinkan ping (ICMP)", "the system permits no ping (ICMP)"),
			say(`systemd: AmbientCapabilities=CAP_NET_RAW pada unit; tanpa systemd: sudo setcap cap_net_raw+ep %s, atau sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"`,
				`with systemd: AmbientCapabilities=CAP_NET_RAW in the unit; without: sudo setcap cap_net_raw+ep %s, or sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"`, program()))
	}
	if loss, ok := r.Value(measure.PacketLossRatio); r.Outcome != measure.OK || !ok || loss == 1 {
		return bad(ICMP, say("kotak ini tidak menjawab ping dari dirinya sendiri (127.0.0.1) %s", "this box does not answer a ping from itself (127.0.0.1) %s", r.Detail),
			say("nyalakan antarmuka lo (sudo ip link set lo up) dan periksa firewall", "bring up the interface lo (sudo ip link set lo up) and look at the firewall"))
	}
	raw, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return good(ICMP, say("ping diizinkan tanpa CAP_NET_RAW; hop pertama penyedia tidak dapat dicari sendiri, isi first_hop bila perlu",
			"ping is permitted, without CAP_NET_RAW; the provider's first hop cannot be found by itself: set first_hop if it matters"))
	}
	raw.Close()
	if os.Geteuid() == 0 {
		return good(ICMP, say("ping diizinkan untuk root; layanan memerlukan AmbientCapabilities=CAP_NET_RAW seperti pada unitnya",
			"ping is permitted to root; the service needs AmbientCapabilities=CAP_NET_RAW, as its unit has it"))
	}
	return good(ICMP, say("ping diizinkan", "ping is permitted"))
}

func program() string {
	if p, err := os.Executable(); err == nil {
		return p
	}
	return "pantau-probe"
}

// usage reads the counters once, as the instrument does.
func (p *patient) usage(ctx context.Context) Finding {
	if p.opt.Router.Interface != "" {
		return p.router(ctx)
	}
	name := p.opt.UsageInterface
	if name == "" {
		name = p.config.GetUsageInterface()
	}
	r := usage.New(usage.Options{Interface: name}).Measure(ctx)
	switch {
	case r.Outcome == measure.Skipped:
		return skipped(Usage, say("tidak ada antarmuka yang dinyatakan membawa pemakaian desa: pemakaian tidak diukur",
			"no interface is declared to carry the village's traffic: usage is not measured"))
	case r.Outcome != measure.OK:
		p.health |= wire.HealthInterface
		return bad(Usage, say("antarmuka %s tidak dapat dibaca: %s", "interface %s cannot be read: %s", name, r.Detail),
			say("perbaiki usage_interface (di berkas pengaturan, atau di inventaris oleh pengelola); yang ada: `ip link`",
				"correct usage_interface (in the settings file, or by the operator in the inventory); what there is: `ip link`"))
	}
	return good(Usage, say("antarmuka %s ada dan terbaca", "interface %s is there and can be read", name))
}

// router reads the router's counters once, as the instrument does.
func (p *patient) router(ctx context.Context) Finding {
	r := router.New(p.opt.Router).Measure(ctx)
	if r.Outcome != measure.OK {
		return bad(Usage, say("router tidak memberi tahu pemakaian: %s", "the router does not tell its usage: %s", r.Detail), p.bySNMP("router", r.Reason))
	}
	return good(Usage, say("router menjawab lewat SNMP, antarmuka %s terbaca", "the router answers by SNMP, its interface %s can be read", p.opt.Router.Interface))
}

// bySNMP is what to do about a device that is not understood.
func (p *patient) bySNMP(section string, r measure.Reason) Text {
	switch r {
	case measure.ReasonTimeout, measure.ReasonRefused, measure.ReasonUnreachable:
		return say("nyalakan SNMP pada perangkat itu (hanya baca, dari kotak ini saja) dan periksa %s.snmp.address, version dan community",
			"turn on SNMP on that device (reading only, from this box only), and look at %s.snmp.address, version and community", section)
	case measure.ReasonPermission:
		return say("periksa user, auth, privacy dan kata sandinya di %s.snmp, juga hak bacanya pada perangkat", "look at user, auth, privacy and their passwords in %s.snmp, and at what it may read on the device", section)
	}
	return say("periksa bagian %s di berkas pengaturan", "look at the section %s of the settings file", section)
}

// optics reads the light once, as the instrument does.
func (p *patient) optics(ctx context.Context) []Finding {
	if p.opt.ONT.Preset == "" {
		return nil
	}
	r := optics.New(p.opt.ONT).Measure(ctx)
	power, ok := r.Value(measure.OpticalReceivePowerDBm)
	switch {
	case r.Reason == measure.ReasonNoSignal:
		return []Finding{bad(Optics, say("tidak ada cahaya yang diterima ONT: %s", "the ONT receives no light: %s", r.Detail), say("periksa konektor dan kabel serat, lalu laporkan ke penyedia", "look at the connector and the fibre, then tell the provider"))}
	case !ok:
		return []Finding{bad(Optics, say("cahaya tidak terbaca: %s", "the light cannot be read: %s", r.Detail), p.bySNMP("ont", r.Reason))}
	case slices.Contains(r.Flags, optics.FlagUnverified):
		return []Finding{good(Optics, say("cahaya yang diterima %.2f dBm; cara bacanya dari MIB, belum dicoba pada perangkat ini: bandingkan dengan halaman ONT", "it receives %.2f dBm of light; how it was read is from the MIB, not tried on this hardware: compare it with the ONT's own page", power))}
	}
	return []Finding{good(Optics, say("cahaya yang diterima %.2f dBm", "it receives %.2f dBm of light", power))}
}

// signal reads the mobile modem once, as the instrument does.
func (p *patient) signal(ctx context.Context) []Finding {
	if !p.opt.Modem && !p.config.GetMobile() {
		return nil
	}
	r := signal.New(p.opt.Signal).Measure(ctx)
	power, heard := r.Value(measure.MobileRSRPDBm)
	switch {
	case r.Outcome == measure.Skipped:
		return []Finding{bad(Signal, say("ModemManager tidak berjalan: sinyal modem tidak terbaca", "ModemManager does not run: the modem's signal cannot be read"),
			say("pasang dan nyalakan ModemManager, atau kosongkan modem bila modemnya di perangkat lain", "install and start ModemManager, or leave modem empty if the modem is in another device"))}
	case r.Reason == measure.ReasonPermission:
		return []Finding{bad(Signal, say("sinyal modem tidak boleh dibaca: %s", "the modem's signal may not be read: %s", r.Detail), say("tambahkan aturan polkit seperti pada contoh pengaturan", "add the polkit rule that the example settings show"))}
	case r.Reason == measure.ReasonNoSignal:
		return []Finding{bad(Signal, say("modem tanpa jaringan: %s", "the modem has no network: %s", r.Detail), say("periksa kartu SIM, PIN, pulsa, dan antena", "look at the SIM card, its PIN and credit, and the antenna"))}
	case r.Outcome != measure.OK:
		return []Finding{bad(Signal, say("sinyal modem tidak terbaca: %s", "the modem's signal cannot be read: %s", r.Detail), say("periksa `mmcli -L` dan modem di berkas pengaturan", "look at `mmcli -L`, and at modem in the settings file"))}
	case !heard:
		return []Finding{good(Signal, say("jaringan %s, modem tidak menyebut kuat sinyalnya", "network %s; the modem does not tell how strong it is", r.Detail))}
	}
	return []Finding{good(Signal, say("jaringan %s, RSRP %.0f dBm", "network %s, RSRP %.0f dBm", r.Detail, power))}
}

// secrets looks at who may read the settings file.
func (p *patient) secrets(context.Context) []Finding {
	if !p.opt.Secrets {
		return nil
	}
	info, err := os.Stat(p.opt.SettingsFile)
	switch {
	case err != nil:
		return nil // it was read a moment ago
	case info.Mode().Perm()&0o077 != 0:
		return []Finding{bad(Secrets, say("%s berisi kata sandi dan dapat dibaca akun lain", "%s holds passwords and can be read by other accounts", p.opt.SettingsFile),
			say("sudo chmod 600 %s, dan serahkan kepada layanan dengan LoadCredential seperti pada contohnya", "sudo chmod 600 %s, and hand it to the service with LoadCredential as its example says", p.opt.SettingsFile))}
	}
	return []Finding{good(Secrets, say("%s hanya dapat dibaca pemiliknya", "only its owner can read %s", p.opt.SettingsFile))}
}

// clock comes after the collector was asked for its time.
func (p *patient) clock(context.Context) Finding {
	r := p.clocks.Now()
	ntp := say("nyalakan NTP: sudo timedatectl set-ntp true (OpenWrt: /etc/init.d/sysntpd enable); hasil tetap disimpan dan waktunya dikoreksi kolektor",
		"turn on NTP: sudo timedatectl set-ntp true (OpenWrt: /etc/init.d/sysntpd enable); results are kept and the collector corrects their time")
	at := r.Wall.Format("2006-01-02 15:04:05 MST")
	floor := p.opt.Built
	if p.id != nil {
		for _, t := range []time.Time{p.state.LastSeen(), p.id.EnrolledAt} {
			if t.After(floor) {
				floor = t
			}
		}
	}
	if r.Wall.Before(floor) {
		return bad(Clock, say("jam kotak ini %s, padahal sudah lewat %s", "this box's clock says %s, but it is later than %s", at, floor.Format("2006-01-02 15:04:05 MST")), ntp)
	}
	synchronised := r.Quality == measure.ClockSynchronised
	if p.told {
		off := r.Wall.Sub(p.time.Floor()).Round(time.Millisecond)
		switch {
		case p.time.Reading().Quality != measure.ClockCollector:
			return bad(Clock, say("jam kotak ini berbeda %v dari jam kolektor", "this box's clock differs from the collector's by %v", off), ntp)
		case !synchronised:
			return good(Clock, say("%s, sama dengan kolektor (selisih %v), tetapi tidak disinkronkan NTP", "%s, as the collector's (off by %v), but NTP does not synchronise it", at, off))
		}
		return good(Clock, say("%s, disinkronkan NTP, selisih %v dari kolektor", "%s, synchronised by NTP, off by %v from the collector's", at, off))
	}
	if !synchronised {
		return bad(Clock, say("jam kotak ini %s, tidak disinkronkan NTP, dan kolektor tidak dapat ditanya", "this box's clock says %s, NTP does not synchronise it, and the collector cannot be asked", at), ntp)
	}
	return good(Clock, say("%s, disinkronkan NTP", "%s, synchronised by NTP", at))
}
