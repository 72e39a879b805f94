// Package signal reads how well the village's mobile modem hears its cell, from
// ModemManager, over the system's D-Bus.
//
// It guarantees figures that a modem can measure (3GPP's reporting ranges), or
// none: what a modem says in place of "not known" is left out and flagged, and no
// network is a failure (no_signal), not a low figure. It costs the line nothing. It
// ends in bounded time, whatever hangs.
//
// It refuses to guess which of several modems is the village's, and starts no
// service that does not run. The one thing that it changes is that ModemManager
// looks at the signal at all: without somebody who asks it to, it does not.
package signal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/pantau-desa/pantau/probe/instrument/internal/failure"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Method names how the figures come about; MethodVersion changes whenever the
// same signal would give other figures.
const (
	Method        = "modemmanager"
	MethodVersion = "1"
)

// FlagRefused says that the modem gave a figure that cannot be; it was left out.
const FlagRefused measure.Flag = "figure_refused"

// Limit is the longest that Measure takes.
const Limit = 12 * time.Second

const (
	// rate is how often ModemManager is asked to look, if nobody has asked it.
	rate = 30 * time.Second
	// settle is how long its first look is waited for.
	settle = 6 * time.Second
	glance = 200 * time.Millisecond
	// most modems, and most figures of one technology, that are looked at.
	mostModems  = 16
	mostFigures = 32
)

// defaultBus is the system's bus, where DBUS_SYSTEM_BUS_ADDRESS names none.
const defaultBus = "unix:path=/run/dbus/system_bus_socket"

// Options of an Instrument.
type Options struct {
	// Modem is the village's, by its primary port (cdc-wdm0), its number or its path in
	// /sys. Empty: the only one there is.
	Modem string
	Bus   string // address, unix:path=... Empty: the system's
}

// Instrument reads one modem. Make it with New.
type Instrument struct {
	opt    Options
	settle time.Duration
}

// New makes an instrument.
func New(o Options) *Instrument {
	if o.Bus == "" {
		o.Bus = os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")
	}
	if o.Bus == "" {
		o.Bus = defaultBus
	}
	return &Instrument{opt: o, settle: settle}
}

// Measure reads once. The values of an ok result are, as far as the modem says
// them, mobile_rsrp_dbm, mobile_rsrq_db, mobile_sinr_db, mobile_generation and
// mobile_cell_id; its detail names the technology. Where LTE and NR serve together,
// the first three are of LTE, which carries the connection. A network of the second
// or third generation has none of the three.
//
// It is skipped with no_target where no ModemManager runs, and fails with no_target
// if there is no modem, or not the one that was named; no_signal while the modem
// has no network; permission if this account may not have the signal looked at;
// malformed if nothing that it says can be; timeout, or other, if the bus or
// ModemManager does not do its part; cancelled if ctx ends first. Event time and
// boot are the caller's to fill in.
func (in *Instrument) Measure(ctx context.Context) measure.Result {
	start := time.Now()
	res := measure.Result{Kind: measure.KindSignal, Outcome: measure.OK, Instrument: Method, MethodVersion: MethodVersion}
	limited, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	got, err := in.read(limited)
	res.Duration = time.Since(start)
	switch wrong, told := errors.AsType[*trouble](err); {
	case ctx.Err() != nil:
		return res.Fail(measure.ReasonCancelled, ctx.Err().Error())
	case errors.Is(err, errNobody):
		return res.Skip(measure.ReasonNoTarget, err.Error())
	case err != nil && limited.Err() != nil:
		return res.Fail(measure.ReasonTimeout, fmt.Sprintf("ModemManager does not answer within %v", Limit))
	case told:
		return res.Fail(wrong.reason, wrong.what)
	case err != nil:
		return res.Fail(reasonOf(err), err.Error())
	}
	res.Values, res.Detail = got.values, got.technology
	if got.refused {
		res.Flags = append(res.Flags, FlagRefused)
	}
	return res
}

// errNobody says that this is no box with a mobile modem, as far as it shows.
var errNobody = errors.New("no ModemManager runs here")

// trouble is an error that knows its reason.
type trouble struct {
	reason measure.Reason
	what   string
}

func (t *trouble) Error() string { return t.what }

func fail(r measure.Reason, format string, args ...any) error {
	return &trouble{r, fmt.Sprintf(format, args...)}
}

// reasonOf gives an error of the bus its reason.
func reasonOf(err error) measure.Reason {
	var e dbus.Error
	if !errors.As(err, &e) {
		return failure.ReasonOf(err)
	}
	switch {
	case strings.HasSuffix(e.Name, ".AccessDenied"), strings.HasSuffix(e.Name, ".Unauthorized"), strings.HasSuffix(e.Name, ".AuthFailed"):
		return measure.ReasonPermission
	case strings.HasSuffix(e.Name, ".NoReply"), strings.HasSuffix(e.Name, ".Timeout"), strings.HasSuffix(e.Name, ".TimedOut"):
		return measure.ReasonTimeout
	}
	return measure.ReasonOther
}

// Names on the bus (ModemManager 1.0 and later).
const (
	service       = "org.freedesktop.ModemManager1"
	rootPath      = dbus.ObjectPath("/org/freedesktop/ModemManager1")
	ifaceModem    = service + ".Modem"
	ifaceSignal   = ifaceModem + ".Signal"
	ifaceLocation = ifaceModem + ".Location"
	objectManager = "org.freedesktop.DBus.ObjectManager"
	properties    = "org.freedesktop.DBus.Properties"
)

// connect opens a conversation with the bus that ends with ctx.
func (in *Instrument) connect(ctx context.Context) (*dbus.Conn, error) {
	path, ok := strings.CutPrefix(in.opt.Bus, "unix:path=")
	if path, _, _ = strings.Cut(path, ","); !ok || path == "" {
		return nil, fail(measure.ReasonNoTarget, "the address of the bus is not unix:path=...: %s", in.opt.Bus)
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNobody
	}
	if err != nil {
		return nil, err
	}
	// Everything ends with the connection's deadline, also what the library waits for
	// without a limit of its own.
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	conn, err := dbus.NewConn(raw, dbus.WithContext(ctx))
	if err == nil {
		err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	}
	if err == nil {
		err = conn.Hello()
	}
	if err != nil {
		stop()
		raw.Close()
		return nil, err
	}
	return conn, nil
}

type (
	figures = map[string]dbus.Variant
	object  = map[string]figures // by interface
)

// reading is what a modem says.
type reading struct {
	values     []measure.Value
	technology string
	refused    bool // something that cannot be was left out
}

func (in *Instrument) read(ctx context.Context) (r reading, err error) {
	conn, err := in.connect(ctx)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	var runs bool
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, service).Store(&runs); err != nil {
		return r, err
	}
	if !runs {
		return r, errNobody
	}
	var all map[dbus.ObjectPath]object
	call := conn.Object(service, rootPath).CallWithContext(ctx, objectManager+".GetManagedObjects", dbus.FlagNoAutoStart)
	if call.Err != nil {
		return r, call.Err
	}
	if err := call.Store(&all); err != nil {
		return r, fail(measure.ReasonMalformed, "ModemManager's list of modems cannot be read")
	}
	at, modem, err := in.choose(all)
	if err != nil {
		return r, err
	}
	if err := registered(modem[ifaceModem]); err != nil {
		return r, err
	}
	m := conn.Object(service, at)
	lte, nr, err := in.signal(ctx, m, modem)
	if err != nil {
		return r, err
	}
	r.generation(modem[ifaceModem])
	switch {
	case len(lte) > 0:
		r.radio(lte)
	case len(nr) > 0:
		r.radio(nr)
	}
	r.cell(ctx, m, modem)
	switch {
	case len(r.values) == 0 && r.refused:
		return r, fail(measure.ReasonMalformed, "nothing that the modem says of its signal can be")
	case len(r.values) == 0:
		return r, fail(measure.ReasonNoSignal, "the modem says nothing of its signal")
	}
	return r, nil
}

// choose finds the village's modem.
func (in *Instrument) choose(all map[dbus.ObjectPath]object) (at dbus.ObjectPath, modem object, err error) {
	var names []string
	for path, o := range all {
		of, is := o[ifaceModem]
		if !is {
			continue
		}
		port, device := text(of["PrimaryPort"]), text(of["Device"])
		names = append(names, port)
		number := path[strings.LastIndexByte(string(path), '/')+1:]
		if in.opt.Modem == "" || slices.Contains([]string{port, device, string(number)}, in.opt.Modem) {
			at, modem = path, o
		}
	}
	slices.Sort(names)
	switch {
	case len(names) > mostModems:
		return "", nil, fail(measure.ReasonMalformed, "%d modems", len(names))
	case len(names) == 0:
		return "", nil, fail(measure.ReasonNoTarget, "ModemManager sees no modem")
	case in.opt.Modem == "" && len(names) > 1:
		return "", nil, fail(measure.ReasonNoTarget, "of the modems %s it is not clear which: name one", strings.Join(names, " "))
	case modem == nil:
		return "", nil, fail(measure.ReasonNoTarget, "there is no modem %s, but %s", in.opt.Modem, strings.Join(names, " "))
	}
	return at, modem, nil
}

// text is a text of a stranger, fit to be shown; empty if it is none.
func text(v dbus.Variant) string {
	s, _ := v.Value().(string)
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), 100)], ""))
}

// registered tells a modem that has a network from one that has not (MMModemState).
func registered(modem figures) error {
	state, ok := modem["State"].Value().(int32)
	switch {
	case !ok:
		return fail(measure.ReasonMalformed, "the modem has no state")
	case state == -1:
		return fail(measure.ReasonNoSignal, "the modem has failed, or has no SIM card")
	case state == 2:
		return fail(measure.ReasonNoSignal, "the SIM card is locked by a PIN")
	case state < 7:
		return fail(measure.ReasonNoSignal, "the modem is switched off (state %d)", state)
	case state == 7:
		return fail(measure.ReasonNoSignal, "the modem searches for a network")
	}
	return nil
}

// signal gets the figures of LTE and NR. If nobody has asked ModemManager to look
// at them, it is asked, and its first look is waited for.
func (in *Instrument) signal(ctx context.Context, m dbus.BusObject, modem object) (lte, nr figures, err error) {
	of, has := modem[ifaceSignal]
	if !has {
		return nil, nil, nil // an old modem: technology and cell it may know
	}
	lte, nr = technologies(of)
	if looks, _ := of["Rate"].Value().(uint32); looks > 0 || len(lte)+len(nr) > 0 {
		return lte, nr, nil
	}
	if err := m.CallWithContext(ctx, ifaceSignal+".Setup", dbus.FlagNoAutoStart, uint32(rate.Seconds())).Err; err != nil {
		if reasonOf(err) == measure.ReasonPermission {
			return nil, nil, fail(measure.ReasonPermission, "this account may not have ModemManager look at the signal (polkit: org.freedesktop.ModemManager1.Device.Control); or have it look by `mmcli -m any --signal-setup=30`")
		}
		return nil, nil, err
	}
	for until := time.Now().Add(in.settle); ; {
		if err := m.CallWithContext(ctx, properties+".GetAll", dbus.FlagNoAutoStart, ifaceSignal).Store(&of); err != nil {
			return nil, nil, err
		}
		if lte, nr = technologies(of); len(lte)+len(nr) > 0 || time.Now().After(until) {
			return lte, nr, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(glance):
		}
	}
}

func technologies(of figures) (lte, nr figures) {
	dictionary := func(v dbus.Variant) figures {
		m, ok := v.Value().(map[string]dbus.Variant)
		if !ok || len(m) > mostFigures {
			return nil
		}
		return m
	}
	return dictionary(of["Lte"]), dictionary(of["Nr5g"])
}

// radio takes RSRP, RSRQ and SINR of one technology.
func (r *reading) radio(of figures) {
	for _, f := range []struct {
		name string
		m    measure.Metric
	}{{"rsrp", measure.MobileRSRPDBm}, {"rsrq", measure.MobileRSRQDB}, {"snr", measure.MobileSINRDB}} {
		v, there := of[f.name]
		if !there {
			continue
		}
		n, ok := v.Value().(float64)
		if !ok {
			r.refused = true
			continue
		}
		r.add(f.m, n)
	}
}

// add takes a figure that can be.
func (r *reading) add(m measure.Metric, n float64) {
	// Written so that NaN, which compares with nothing, is refused too.
	if least, most := m.Bounds(); !(n >= least && n <= most) || math.IsInf(n, 0) {
		r.refused = true
		return
	}
	r.values = append(r.values, measure.Value{Metric: m, Number: n})
}

// MMModemAccessTechnology: one bit each.
const (
	technologies2G = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<10            // GSM, compact, GPRS, EDGE; 1xRTT
	technologies3G = 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<9 | 0b111<<11 // UMTS, HSDPA, HSUPA, HSPA, HSPA+; EVDO
	technologies4G = 1<<14 | 1<<16 | 1<<17                        // LTE, Cat-M, NB-IoT
	technologies5G = 1 << 15                                      // NR
)

// generation takes the newest technology that serves.
func (r *reading) generation(modem figures) {
	bits, ok := modem["AccessTechnologies"].Value().(uint32)
	if !ok {
		return
	}
	lte := bits&technologies4G != 0
	generation := 0.0
	switch {
	case bits&technologies5G != 0 && lte:
		generation, r.technology = 5, "LTE and NR"
	case bits&technologies5G != 0:
		generation, r.technology = 5, "NR"
	case lte:
		generation, r.technology = 4, "LTE"
	case bits&technologies3G != 0:
		generation, r.technology = 3, "3G"
	case bits&technologies2G != 0:
		generation, r.technology = 2, "2G"
	default:
		return // it does not know
	}
	r.add(measure.MobileGeneration, generation)
}

// sourceCell is MM_MODEM_LOCATION_SOURCE_3GPP_LAC_CI.
const sourceCell = uint32(1)

// place is "MCC,MNC,LAC,CI" and, in newer versions, ",TAC"; the last three in
// hexadecimal digits.
var place = regexp.MustCompile(`^[0-9]{3},[0-9]{2,3},[0-9A-Fa-f]{0,8},([0-9A-Fa-f]{1,9})(,[0-9A-Fa-f]{0,8})?$`)

// cell takes the serving cell. Whoever may not ask for it gets everything else.
func (r *reading) cell(ctx context.Context, m dbus.BusObject, modem object) {
	if _, has := modem[ifaceLocation]; !has {
		return
	}
	var where map[uint32]dbus.Variant
	if m.CallWithContext(ctx, ifaceLocation+".GetLocation", dbus.FlagNoAutoStart).Store(&where) != nil {
		return
	}
	v, told := where[sourceCell]
	if !told {
		return
	}
	s, _ := v.Value().(string)
	found := place.FindStringSubmatch(s)
	if found == nil {
		r.refused = true
		return
	}
	id, err := strconv.ParseUint(found[1], 16, 64)
	if err != nil || id == 0 { // 0: not known
		return
	}
	r.add(measure.MobileCellID, float64(id))
}
