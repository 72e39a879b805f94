package probe

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/pantau-desa/pantau/probe/instrument/speed"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// limits are the speeds below which a result is low, in bits per second, by direction;
// 0: none is.
type limits map[measure.Kind]float64

func limitsOf(c *wirepb.ProbeConfig) limits {
	return limits{measure.KindDownload: c.LowDownloadBps, measure.KindUpload: c.LowUploadBps}
}

// low reports whether r is a figure below the limit of its direction.
func (l limits) low(r measure.Result) bool {
	metric := map[measure.Kind]measure.Metric{measure.KindDownload: measure.DownloadBitsPerSecond,
		measure.KindUpload: measure.UploadBitsPerSecond}[r.Kind]
	v, ok := r.Value(metric)
	return ok && r.Outcome == measure.OK && v < l[r.Kind]
}

// confirm measures again at another server what came out low, since a bad server looks
// like a bad line, and marks what is low with what came of it. The second test is one
// like any: with a ticket of its own, from the same budget. If there is no other
// server, no ticket at once, or no figure, what is low stays unconfirmed.
func (k *kit) confirm(ctx context.Context, o speed.Options, l limits, targets []*wirepb.SpeedTarget, at *wirepb.SpeedTarget, first []measure.Result) []measure.Result {
	wanted := func(kind measure.Kind) bool {
		return slices.ContainsFunc(first, func(r measure.Result) bool { return r.Kind == kind && l.low(r) })
	}
	if !slices.ContainsFunc(first, l.low) {
		return first
	}
	var second []measure.Result
	others := slices.DeleteFunc(slices.Clone(targets), func(t *wirepb.SpeedTarget) bool { return t.Id == at.Id || t.Url == at.Url })
	if len(others) > 0 {
		other := others[rand.IntN(len(others))]
		second, _ = k.byTicket(ctx, other, func(ctx context.Context) []measure.Result { return k.test(ctx, o, other, wanted) })
	}
	return l.mark(first, second)
}

// mark flags what is low in either test: confirmed if both say so.
func (l limits) mark(first, second []measure.Result) []measure.Result {
	confirmed := func(kind measure.Kind) bool {
		low := func(r measure.Result) bool { return r.Kind == kind && l.low(r) }
		return slices.ContainsFunc(first, low) && slices.ContainsFunc(second, low)
	}
	all := slices.Concat(first, second)
	for i, r := range all {
		if !l.low(r) {
			continue
		}
		flag := measure.FlagLowUnconfirmed
		if confirmed(r.Kind) {
			flag = measure.FlagLowConfirmed
		}
		all[i].Flags = append(slices.Clone(r.Flags), flag)
	}
	return all
}
