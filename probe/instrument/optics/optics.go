// Package optics reads how much light the village's ONT receives, by SNMP: a
// drop cable that is bent, wet or badly spliced shows here weeks before it breaks.
//
// It guarantees a figure in dBm that a receiver can have, or none: the dark
// (no_signal) is no figure, nor is what a module says that does not measure. It
// refuses to guess which of several receivers leads to the provider.
//
// Few ONTs speak SNMP towards the house. The presets are taken from published
// MIBs, see [Presets]; none of them has been tried on the hardware it is meant for,
// and every result made by one says so ([FlagUnverified]).
package optics

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/snmp"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// MethodVersion changes whenever the same light would give other figures. The
// method's name is "snmp-" and the preset's.
const MethodVersion = "1"

// FlagUnverified says that the figure was read by a preset that was never tried on
// the hardware: the MIB promises it, nothing else.
const FlagUnverified measure.Flag = "unverified_preset"

// Limit is the longest that Measure takes.
const Limit = 8 * time.Second

// Preset names a way to ask.
type Preset string

// The presets, and asking for one object by hand.
const (
	// MikroTik is for RouterOS with an SFP or GPON module: MIKROTIK-MIB of 2023-05-01.
	MikroTik Preset = "mikrotik"
	// EntitySensor is for whatever follows RFC 3433 (ENTITY-SENSOR-MIB).
	EntitySensor Preset = "entity-sensor"
	// Custom asks for the object of Options.OID.
	Custom Preset = "custom"
)

// Source says where a preset comes from.
type Source struct {
	Preset   Preset
	Document string
	Object   string // and its identifier
	Verified bool   // on hardware
}

// Presets lists all presets but [Custom]. (Huawei's HUAWEI-ENTITY-EXTENT-MIB is left
// out: devices disagree whether hwEntityOpticalRxPower is in 0.01 dBm or in uW.)
func Presets() []Source {
	return []Source{
		{MikroTik, "MIKROTIK-MIB, last updated 2023-05-01, table mtxrOpticalTable (SFP and GPON information)", "mtxrOpticalRxPower " + mtxrOpticalRxPower, false},
		{EntitySensor, "RFC 3433, ENTITY-SENSOR-MIB, table entPhySensorTable; the sensor by its name in ENTITY-MIB (RFC 6933)", "entPhySensorValue " + entPhySensorValue, false},
	}
}

// Unit is what a custom object counts in.
type Unit string

// The units.
const (
	DBm  Unit = "dbm"
	Watt Unit = "watt"
)

// Options of an Instrument.
type Options struct {
	Access snmp.Access
	Preset Preset // empty: nothing is measured
	// Row is the receiver: for MikroTik its interface's name (may be empty if there is
	// one only), for EntitySensor the sensor's name or its number.
	Row string
	// OID is the whole identifier of a custom object, Unit what it counts in after it
	// was divided by Divisor: an object in hundredths of a dBm has DBm and 100.
	OID     string
	Unit    Unit           // empty: DBm
	Divisor float64        // 0: 1
	Ledger  *ledger.Ledger // where the bytes are entered. nil: nowhere
}

var identifier = regexp.MustCompile(`^[0-2](\.(0|[1-9][0-9]{0,9})){3,60}$`)

// Check returns what is wrong with o, by the name of the setting; the access has
// a check of its own.
func (o Options) Check() map[string]string {
	wrong := map[string]string{}
	switch o.Preset {
	case "", MikroTik, EntitySensor:
		if o.OID != "" {
			wrong["oid"] = "is of preset custom"
		}
	case Custom:
		if !identifier.MatchString(o.OID) {
			wrong["oid"] = "is not an object identifier such as 1.3.6.1.4.1.99999.1.2.0"
		}
		if o.Row != "" {
			wrong["row"] = "is not of preset custom: write the whole identifier into oid"
		}
	default:
		wrong["preset"] = fmt.Sprintf("is not one of %s, %s, %s", MikroTik, EntitySensor, Custom)
	}
	if o.Preset == EntitySensor && o.Row == "" {
		wrong["row"] = "is empty: name the sensor"
	}
	if o.Unit != "" && o.Unit != DBm && o.Unit != Watt {
		wrong["unit"] = fmt.Sprintf("is not %s or %s", DBm, Watt)
	}
	if o.Divisor < 0 || math.IsNaN(o.Divisor) || math.IsInf(o.Divisor, 0) {
		wrong["divisor"] = "is not above 0"
	}
	return wrong
}

// Instrument reads one receiver. Make it with New.
type Instrument struct{ opt Options }

// New makes an instrument.
func New(o Options) *Instrument {
	if o.Unit == "" {
		o.Unit = DBm
	}
	if o.Divisor == 0 {
		o.Divisor = 1
	}
	if o.Ledger == nil {
		o.Ledger = ledger.New(ledger.Options{})
	}
	return &Instrument{opt: o}
}

// Measure reads once. The value of an ok result is optical_receive_power_dbm.
//
// It is skipped with no_target if no preset is declared. It fails with no_target if
// the settings are wrong or there is no such receiver, no_signal if no light
// comes in, timeout, refused or unreachable if the device does not answer,
// permission if it does not let itself be asked, malformed if what it says cannot
// be, other if its sensor does not work, cancelled if ctx ends first. Event time
// and boot are the caller's to fill in.
func (in *Instrument) Measure(ctx context.Context) measure.Result {
	start := time.Now()
	res := measure.Result{Kind: measure.KindOptics, Outcome: measure.OK, Instrument: "snmp-" + string(in.opt.Preset), MethodVersion: MethodVersion}
	if in.opt.Preset == "" {
		res.Instrument = "snmp"
		return res.Skip(measure.ReasonNoTarget, "no ONT is declared that tells its light")
	}
	if wrong := in.opt.Check(); len(wrong) > 0 {
		return res.Fail(measure.ReasonNoTarget, fmt.Sprintf("the receiver is not settled: %v", wrong))
	}
	limited, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	s, err := snmp.Dial(limited, in.opt.Access, in.opt.Ledger)
	var power float64
	if err == nil {
		power, err = in.ask(s)
		res.BytesReceived, res.BytesSent = s.Close()
	}
	res.Duration = time.Since(start)
	switch {
	case ctx.Err() != nil:
		return res.Fail(measure.ReasonCancelled, ctx.Err().Error())
	case err != nil:
		return res.Fail(snmp.ReasonOf(err), err.Error())
	}
	res.Values = []measure.Value{{Metric: measure.OpticalReceivePowerDBm, Number: power}}
	if slices.ContainsFunc(Presets(), func(p Source) bool { return p.Preset == in.opt.Preset && !p.Verified }) {
		res.Flags = append(res.Flags, FlagUnverified)
	}
	return res
}

func (in *Instrument) ask(s *snmp.Session) (float64, error) {
	switch in.opt.Preset {
	case MikroTik:
		return in.mikrotik(s)
	case EntitySensor:
		return in.entitySensor(s)
	}
	return in.custom(s)
}

func dark(what string) error { return &snmp.Failure{Reason: measure.ReasonNoSignal, What: what} }
func absent(format string, args ...any) error {
	return &snmp.Failure{Reason: measure.ReasonNoTarget, What: fmt.Sprintf(format, args...)}
}

// believable is a power that a receiver can have. Its floor is what receivers say
// when nothing comes in.
func believable(dbm float64) (float64, error) {
	least, most := measure.OpticalReceivePowerDBm.Bounds()
	switch {
	case math.IsNaN(dbm) || dbm > most:
		return 0, snmp.Malformed("%.4g dBm of light is more than a receiver can tell", dbm)
	case dbm <= least:
		return 0, dark("no light comes in")
	}
	return dbm, nil
}

// logarithmic is a power given in dBm. Exactly nothing is what a module says that
// does not measure; it would be a whole milliwatt, which blinds an ONT.
func logarithmic(dbm float64) (float64, error) {
	if dbm == 0 {
		return 0, snmp.Malformed("the module says 0: it does not measure its light")
	}
	return believable(dbm)
}

// linear is a power given in watts.
func linear(watt float64) (float64, error) {
	if watt <= 0 {
		return 0, dark("no light comes in")
	}
	return believable(10 * math.Log10(watt/1e-3))
}

// MIKROTIK-MIB: columns of mtxrOpticalTable. RouterOS numbers the rows at will, so
// the name tells which is which. mtxrOpticalRxPower has the syntax IDiv1000 and the
// unit dBm, mtxrOpticalRxLoss is 1 where no light is seen.
const (
	mtxrOpticalName    = "1.3.6.1.4.1.14988.1.1.19.1.1.2"
	mtxrOpticalRxLoss  = "1.3.6.1.4.1.14988.1.1.19.1.1.3"
	mtxrOpticalRxPower = "1.3.6.1.4.1.14988.1.1.19.1.1.10"
)

// mostRows bounds the search for a receiver among a device's optical modules, and
// for a sensor among all its parts.
const (
	mostModules = 64
	mostParts   = 1024
)

func (in *Instrument) mikrotik(s *snmp.Session) (float64, error) {
	rows, err := s.Walk(mtxrOpticalName, mostModules)
	if err != nil {
		return 0, err
	}
	var names, found []string
	for _, r := range rows {
		name, _ := r.Value.Text()
		names = append(names, name)
		if in.opt.Row == "" || name == in.opt.Row {
			found = append(found, r.Index)
		}
	}
	if len(found) != 1 {
		return 0, absent("of the optical modules %q it is not clear which: name it in row", names)
	}
	v, err := s.Get(mtxrOpticalRxLoss+"."+found[0], mtxrOpticalRxPower+"."+found[0])
	if err != nil {
		return 0, err
	}
	if loss, ok := v[0].Integer(); ok && loss == 1 {
		return 0, dark("the module has lost the light")
	}
	milli, ok := v[1].Integer()
	if !ok {
		return 0, snmp.Malformed("the module does not say how much light it receives")
	}
	return logarithmic(float64(milli) / 1000)
}

// ENTITY-SENSOR-MIB (RFC 3433) and the columns of ENTITY-MIB that name its rows.
const (
	entPhysicalDescr         = "1.3.6.1.2.1.47.1.1.1.1.2"
	entPhysicalName          = "1.3.6.1.2.1.47.1.1.1.1.7"
	entPhySensorType         = "1.3.6.1.2.1.99.1.1.1.1"
	entPhySensorScale        = "1.3.6.1.2.1.99.1.1.1.2"
	entPhySensorPrecision    = "1.3.6.1.2.1.99.1.1.1.3"
	entPhySensorValue        = "1.3.6.1.2.1.99.1.1.1.4"
	entPhySensorOperStatus   = "1.3.6.1.2.1.99.1.1.1.5"
	entPhySensorUnitsDisplay = "1.3.6.1.2.1.99.1.1.1.6"
)

var digits = regexp.MustCompile(`^[1-9][0-9]{0,9}$`)

func (in *Instrument) entitySensor(s *snmp.Session) (float64, error) {
	index := in.opt.Row
	if !digits.MatchString(index) {
		var err error
		if index, err = in.part(s); err != nil {
			return 0, err
		}
	}
	column := func(c string) string { return c + "." + index }
	v, err := s.Get(column(entPhySensorType), column(entPhySensorScale), column(entPhySensorPrecision),
		column(entPhySensorValue), column(entPhySensorOperStatus), column(entPhySensorUnitsDisplay))
	if err != nil {
		return 0, err
	}
	if v[3].Missing() {
		return 0, absent("%s is no sensor", in.opt.Row)
	}
	kind, ok1 := v[0].Integer()
	scale, ok2 := v[1].Integer()
	precision, ok3 := v[2].Integer()
	value, ok4 := v[3].Integer()
	status, ok5 := v[4].Integer()
	unit, _ := v[5].Text()
	const (
		other, unknown, watts = 1, 2, 6 // EntitySensorDataType
		working               = 1       // EntitySensorStatus ok
		units, yocto, yotta   = 9, 1, 17
		beyond                = 1e9 // overflow and, negative, underflow
	)
	switch {
	case !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || scale < yocto || scale > yotta || precision < -8 || precision > 9:
		return 0, snmp.Malformed("the sensor does not say what it measures")
	case status != working:
		return 0, &snmp.Failure{Reason: measure.ReasonOther, What: "the sensor has no reading, by its own word"}
	case value <= -beyond || value >= beyond:
		return 0, snmp.Malformed("the sensor's reading is beyond its range")
	}
	n := float64(value) * math.Pow10(3*int(scale-units)-int(max(precision, 0)))
	switch {
	case kind == watts:
		return linear(n)
	case (kind == other || kind == unknown) && strings.EqualFold(unit, "dBm"): // the list has no dBm
		return logarithmic(n)
	}
	return 0, absent("sensor %s measures no power (type %d, %q)", in.opt.Row, kind, unit)
}

// part finds the number of the part with the row's name.
func (in *Instrument) part(s *snmp.Session) (string, error) {
	for _, column := range []string{entPhysicalName, entPhysicalDescr} {
		rows, err := s.Walk(column, mostParts)
		if err != nil {
			return "", err
		}
		var found []string
		for _, r := range rows {
			if name, _ := r.Value.Text(); name == in.opt.Row {
				found = append(found, r.Index)
			}
		}
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return "", absent("%d parts have the name %s: write the sensor's number instead", len(found), in.opt.Row)
		}
	}
	return "", absent("the device has no part %s", in.opt.Row)
}

// written is a number in a text, as some ONTs answer: -21.34, or -21.34 dBm.
var written = regexp.MustCompile(`(?i)^([-+]?[0-9]{1,9}([.,][0-9]{1,9})?) *(dbm)?$`)

func (in *Instrument) custom(s *snmp.Session) (float64, error) {
	v, err := s.Get(in.opt.OID)
	if err != nil {
		return 0, err
	}
	var n float64
	if i, ok := v[0].Integer(); ok {
		n = float64(i)
	} else if g, ok := v[0].Gauge(); ok {
		n = float64(g)
	} else if text, ok := v[0].Text(); ok && written.MatchString(text) {
		number := strings.Replace(written.FindStringSubmatch(text)[1], ",", ".", 1)
		if n, err = strconv.ParseFloat(number, 64); err != nil {
			return 0, snmp.Malformed("%q is no number", text)
		}
	} else if v[0].Missing() {
		return 0, absent("the device has no object %s", in.opt.OID)
	} else {
		return 0, snmp.Malformed("object %s is no number", in.opt.OID)
	}
	if n /= in.opt.Divisor; in.opt.Unit == Watt {
		return linear(n)
	}
	return logarithmic(n)
}
