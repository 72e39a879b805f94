package incident

import (
	"testing"

	"github.com/pantau-desa/pantau/probe/wire"
)

func TestTestimony(t *testing.T) {
	all, none, most := Answers{10, 10}, Answers{10, 0}, Answers{10, 9}
	record := func(change func(*Record)) *Record {
		r := Record{SameBoot: wire.Yes, Measured: all, LANGateway: all, FirstHop: none, OLT: none, Beyond: none}
		change(&r)
		return &r
	}
	i := Incident{Sites: []Site{
		{Record: record(func(r *Record) {})},
		{Record: record(func(r *Record) { r.FirstHop = most })},
		{Record: record(func(r *Record) { r.OLT, r.OpticalLoss = all, wire.Yes })},
		{Record: record(func(r *Record) { r.Carrier, r.LANGateway = none, none })},
		{Record: record(func(r *Record) { r.Beyond = all })},
		{Record: record(func(r *Record) { r.SameBoot, r.Measured, r.LANGateway = wire.No, Answers{10, 1}, Answers{1, 1} })},
		{Record: record(func(r *Record) {
			r.SameBoot, r.Measured, r.Orderly, r.DyingGasp = wire.No, Answers{10, 1}, wire.Yes, wire.Yes
		})},
		{}, {Withdrawn: true},
	}}
	want := Testimony{Sites: 8, Records: 7, MeasuredOn: 5, Rebooted: 1, CarrierLost: 1, GatewayOnly: 1, FirstHop: 2, BeyondWell: 1, OpticalLost: 1, DyingGasp: 1}
	if got := i.Testimony(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
