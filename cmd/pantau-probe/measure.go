package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/probe"
	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/enroll"
	"github.com/pantau-desa/pantau/probe/instrument/dns"
	"github.com/pantau-desa/pantau/probe/instrument/latency"
	"github.com/pantau-desa/pantau/probe/instrument/optics"
	"github.com/pantau-desa/pantau/probe/instrument/page"
	"github.com/pantau-desa/pantau/probe/instrument/path"
	"github.com/pantau-desa/pantau/probe/instrument/reach"
	"github.com/pantau-desa/pantau/probe/instrument/router"
	"github.com/pantau-desa/pantau/probe/instrument/signal"
	"github.com/pantau-desa/pantau/probe/instrument/speed"
	"github.com/pantau-desa/pantau/probe/instrument/usage"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/push"
	"github.com/pantau-desa/pantau/probe/ticket"
)

// handTarget is the target of a measurement made by hand: no inventory names it.
const handTarget measure.TargetID = "manual"

// measurement is what `measure --json` writes.
type measurement struct {
	speed.Merged
	// Targets are the single answers of reach, 0 or 1.
	Targets map[measure.TargetID]float64 `json:"targets,omitempty"`
	// Server is the public one that was measured against.
	Server string `json:"server,omitempty"`
	// Hops are what answered on the way of a path.
	Hops []hop `json:"hops,omitempty"`
}

type hop struct {
	Limit     int        `json:"limit"`
	Address   netip.Addr `json:"address"`
	RoundTrip float64    `json:"round_trip_seconds"`
}

type measureFlags struct {
	target, iface, resolver, instrument, config, out string
	full, public                                     bool
	duration                                         time.Duration
}

func measureCommand() *cobra.Command {
	var f measureFlags
	c := &cobra.Command{
		Use:   "measure KIND",
		Short: "Run one instrument once, now: speed, latency, reach, usage, dns, http, path, optics or signal",
		Long: `Run one instrument once, now, without being enrolled.

  speed    download and upload against a measurement server (--target URL); one that tests by ticket alone is asked for
           by an enrolled box (--config FILE, the URL as in targets.csv)
  latency  round-trip time, jitter and loss to a host (--target HOST)
  reach    what answers: carrier, LAN gateway, first hop, a target (--target HOST or HOST:PORT)
  usage    what an interface carries within --duration (--interface NAME), or what the router's does (--config FILE)
  dns      how long a resolver takes (--target NAME, --resolver ADDRESS; else the box's own)
  http     how long a page takes to begin (--target URL)
  path     the routers on the way to a host (--target HOST)
  optics   the light that the ONT receives (--config FILE: how it is asked is in the settings)
  signal   how well the mobile modem hears its cell (--config FILE, if there are several modems)

The exit code is 0 when the outcome is ok, 1 when it failed or was skipped.`,
		Example: `  pantau-probe measure speed --target http://ukur.example.id:7442/speedtest
  pantau-probe measure latency --target 192.0.2.1 --json -
  pantau-probe measure dns --target www.example.id --resolver 192.0.2.53`,
		Args: cli.Args(cobra.MatchAll(cobra.ExactArgs(1), func(_ *cobra.Command, args []string) error {
			if !slices.Contains(handKinds, args[0]) {
				return fmt.Errorf("%q is not a kind: one of %v", args[0], handKinds)
			}
			return nil
		})),
		RunE: func(c *cobra.Command, args []string) error {
			if f.public && (args[0] != "speed" || f.target != "" || speed.Name(f.instrument) != speed.SpeedtestGo) {
				return cli.Usage(fmt.Errorf("--public is for: measure speed --instrument %s, without --target", speed.SpeedtestGo))
			}
			if f.duration < time.Second || f.duration > time.Minute {
				return cli.Usage(errors.New("--duration is between 1s and 1m"))
			}
			m, err := measureOnce(c.Context(), args[0], f)
			if err != nil {
				return err
			}
			if f.out != "" {
				err = cli.WriteJSON(f.out, m)
			} else {
				err = show(c, m)
			}
			if err == nil && m.Outcome != measure.OK {
				err = cli.ErrSilent
			}
			return err
		},
	}
	c.Flags().StringVar(&f.target, "target", "", "what to measure against: a URL for speed and http, a name for dns, else HOST or HOST:PORT")
	c.Flags().StringVar(&f.resolver, "resolver", "", "address of the resolver to ask, for dns; without one the box's own")
	c.Flags().StringVar(&f.iface, "interface", "", "interface that carries the village's traffic, for usage; the one to leave by, for speed")
	c.Flags().StringVar(&f.instrument, "instrument", string(speed.Default), fmt.Sprintf("for speed: %s, or %s for comparison", speed.Pantau, speed.SpeedtestGo))
	c.Flags().BoolVar(&f.full, "full", false, "for speed: measure for the whole --duration, without an early end")
	c.Flags().BoolVar(&f.public, "public", false, "for speed with --instrument speedtest-go: against the public Ookla network, abroad, which so learns this box's address")
	c.Flags().StringVar(&f.config, "config", "", "settings file, for optics, signal, the router's usage, and speed by ticket")
	c.Flags().StringVar(&f.out, "json", "", "write JSON to this file; - is standard output")
	c.Flags().DurationVar(&f.duration, "duration", 10*time.Second, "of each direction of speed, at most; or of watching usage")
	return c
}

var handKinds = []string{"speed", "latency", "reach", "usage", "dns", "http", "path", "optics", "signal"}

func measureOnce(ctx context.Context, kind string, f measureFlags) (measurement, error) {
	clocks, err := clock.Open()
	if err != nil {
		return measurement{}, err
	}
	s, err := load(f.config)
	if err != nil {
		return measurement{}, err
	}
	var through string // the interface that connections leave by
	if kind == "speed" {
		through = f.iface
	}
	line, log := ledger.New(ledger.Options{Interface: through}), cli.Logger(os.Stderr, slog.LevelWarn)
	start := clocks.Now()
	var r measure.Result
	switch kind {
	case "speed":
		return f.speed(ctx, s, speed.Options{Instrument: speed.Name(f.instrument), Ledger: line, Logger: log, Duration: f.duration, Full: f.full, NoEcho: through != ""}, start.Wall)
	case "latency":
		r = latency.New(latency.Options{Target: handTarget, Host: hostOf(f.target), Ledger: line, Logger: log}).Measure(ctx)
	case "reach":
		in, err := reach.New(reach.Options{Targets: handTargets(f.target), Ledger: line, Logger: log})
		if err != nil {
			return measurement{}, cli.Usage(err)
		}
		r = in.Measure(ctx)
	case "usage":
		in := f.meter(s, line)
		if r = in.Measure(ctx); r.Outcome == measure.OK {
			select { // the first reading begins at 0
			case <-ctx.Done():
			case <-time.After(f.duration):
			}
			r = in.Measure(ctx)
			r.Duration = clocks.Now().Mono - start.Mono
		}
	case "dns":
		q := dns.Question{ID: handTarget, Name: f.target}
		if r = without(measure.KindDNS, dns.Method, dns.MethodVersion, "say which name: --target NAME"); f.target != "" {
			if f.resolver != "" {
				if q.Resolver, err = netip.ParseAddr(f.resolver); err != nil {
					return measurement{}, cli.Usage(fmt.Errorf("--resolver: %w", err))
				}
			}
			in, err := dns.New(dns.Options{Questions: []dns.Question{q}, Ledger: line})
			if err != nil {
				return measurement{}, cli.Usage(err)
			}
			r = in.Measure(ctx)[0]
		}
	case "http":
		if r = without(measure.KindHTTP, page.Method, page.MethodVersion, "say which page: --target URL"); f.target != "" {
			in, err := page.New(page.Options{Pages: []page.Page{{ID: handTarget, URL: f.target}}, Ledger: line})
			if err != nil {
				return measurement{}, cli.Usage(err)
			}
			r = in.Measure(ctx)[0]
		}
	case "path":
		r = path.New(path.Options{Target: handTarget, Host: hostOf(f.target), Ledger: line}).Measure(ctx)
	case "optics":
		o := s.ont()
		o.Ledger = line
		r = optics.New(o).Measure(ctx)
	case "signal":
		r = signal.New(s.local().Signal()).Measure(ctx)
	}
	r.MeasuredAt = start.Wall
	m := speed.Merged{Kind: kind, Outcome: r.Outcome, Reason: r.Reason, Detail: r.Detail, Instrument: r.Instrument,
		MethodVersion: r.MethodVersion, MeasuredAt: r.MeasuredAt.UTC(), Duration: r.Duration.Seconds(), Target: r.Target,
		Values: map[measure.Metric]float64{}, Flags: r.Flags, BytesReceived: r.BytesReceived, BytesSent: r.BytesSent}
	targets := map[measure.TargetID]float64{}
	for _, v := range r.Values {
		if v.Target == "" {
			m.Values[v.Metric] = v.Number
		} else {
			targets[v.Target] = v.Number
		}
	}
	done := finish(m, targets)
	for _, h := range r.Hops {
		done.Hops = append(done.Hops, hop{h.Limit, h.Address, h.RoundTrip.Seconds()})
	}
	return done, nil
}

// speed measures both directions.
func (f measureFlags) speed(ctx context.Context, s runSettings, o speed.Options, at time.Time) (measurement, error) {
	in, err := speed.New(o)
	if err != nil {
		return measurement{}, cli.Usage(err)
	}
	down, up := f.noServer(measure.KindDownload), f.noServer(measure.KindUpload)
	var public speed.PublicServer
	if f.public {
		public, err = speed.Public(ctx, o)
		f.target = public.URL
	}
	switch {
	case err != nil:
		down, up = speed.Failed(o.Instrument, measure.KindDownload, err), speed.Failed(o.Instrument, measure.KindUpload, err)
	case f.target != "":
		results, err := f.byTicket(ctx, s, o, func(ctx context.Context) []measure.Result {
			return []measure.Result{in.Measure(ctx, handTarget, f.target, measure.KindDownload), in.Measure(ctx, handTarget, f.target, measure.KindUpload)}
		})
		if no, refused := errors.AsType[*ticket.Refusal](err); refused {
			why := fmt.Sprintf("%s; try again in %v", no.Detail, no.After)
			results = []measure.Result{down.Skip(no.Reason, why), up.Skip(no.Reason, why)}
		} else if err != nil {
			return measurement{}, err
		}
		down, up = results[0], results[1]
	}
	down.MeasuredAt = at
	m := finish(speed.Merge(down, up), nil)
	if f.public {
		m.Flags = append(m.Flags, speed.FlagPublic)
	}
	if public.URL != "" {
		m.Server = public.String()
	}
	return m, nil
}

// byTicket runs a speed test as the box's collector lets it, where the settings of an
// enrolled box are given and its collector has told it of that server; else at once.
func (f measureFlags) byTicket(ctx context.Context, s runSettings, o speed.Options, test func(context.Context) []measure.Result) ([]measure.Result, error) {
	if f.config == "" {
		return test(ctx), nil
	}
	state := enroll.State{Dir: s.StateDir}
	id, err := state.Identity()
	if errors.Is(err, enroll.ErrNotEnrolled) {
		return test(ctx), nil
	}
	if err != nil {
		return nil, err
	}
	told, err := state.Config()
	if err != nil {
		return nil, err
	}
	for _, t := range told.GetSpeedTargets() {
		if t.Url != f.target {
			continue
		}
		clocks, err := clock.Open()
		if err != nil {
			return nil, err
		}
		now := push.NewTimekeeper(clocks.Now, probe.BuildTime(), state.LastSeen(), id.EnrolledAt).Floor
		client := &http.Client{Transport: &http.Transport{DialContext: o.Ledger.DialContext, TLSClientConfig: push.PinnedTLS(id.CA, now)}}
		defer client.CloseIdleConnections()
		office := ticket.New(ticket.Options{Probe: id.Probe, Key: id.Key, Collector: id.Collector, Client: client, Logger: o.Logger})
		return office.Test(ctx, measure.TargetID(t.Id), test)
	}
	return test(ctx), nil
}

// meter counts on the interface that was named, else on the router's.
func (f measureFlags) meter(s runSettings, line *ledger.Ledger) interface {
	Measure(context.Context) measure.Result
} {
	if f.iface == "" && s.Router.Interface != "" {
		o := s.router()
		o.Own, o.Ledger, o.Refresh = line, line, time.Nanosecond // whoever looks for 10 s knows that counters may lag
		return router.New(o)
	}
	return usage.New(usage.Options{Interface: cmp.Or(f.iface, s.UsageInterface), Own: line})
}

func finish(m speed.Merged, targets map[measure.TargetID]float64) measurement {
	m.Flags = append([]measure.Flag{measure.FlagUnenrolled}, m.Flags...)
	return measurement{Merged: m, Targets: targets}
}

func (f measureFlags) noServer(k measure.Kind) measure.Result {
	return speed.Blank(speed.Name(f.instrument), k).Skip(measure.ReasonNoTarget, "say against which server: --target URL")
}

// without is what comes of an instrument that was not told what to measure.
func without(k measure.Kind, instrument, version, say string) measure.Result {
	return measure.Result{Kind: k, Instrument: instrument, MethodVersion: version}.Skip(measure.ReasonNoTarget, say)
}

// hostOf takes a host from HOST, HOST:PORT or a URL.
func hostOf(target string) string {
	if u, err := url.Parse(target); err == nil && u.Host != "" {
		return u.Hostname()
	}
	if host, _, err := net.SplitHostPort(target); err == nil {
		return host
	}
	return target
}

func handTargets(target string) []reach.Target {
	if target == "" {
		return nil
	}
	t := reach.Target{ID: handTarget, Host: hostOf(target)}
	host := target
	if u, err := url.Parse(target); err == nil && u.Host != "" {
		host = u.Host
	}
	if _, port, err := net.SplitHostPort(host); err == nil {
		t.Port, _ = strconv.Atoi(port) // a wrong one is named by the instrument
	}
	return []reach.Target{t}
}

// show prints a table for people.
func show(c *cobra.Command, m measurement) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\t%s", m.Kind, m.Outcome)
	if m.Reason != measure.ReasonNone {
		fmt.Fprintf(w, " (%s)", m.Reason)
	}
	fmt.Fprintln(w)
	if m.Detail != "" {
		fmt.Fprintf(w, "\t%s\n", m.Detail)
	}
	if m.Server != "" {
		fmt.Fprintf(w, "server\t%s\n", m.Server)
	}
	for _, k := range slices.Sorted(maps.Keys(m.Values)) {
		fmt.Fprintf(w, "%s\t%s\n", k, human(k, m.Values[k]))
	}
	for _, id := range slices.Sorted(maps.Keys(m.Targets)) {
		fmt.Fprintf(w, "target %s\t%s\n", id, human(measure.TargetReachable, m.Targets[id]))
	}
	for _, h := range m.Hops {
		fmt.Fprintf(w, "hop %d\t%v\t%.2f ms\n", h.Limit, h.Address, h.RoundTrip*1e3)
	}
	fmt.Fprintf(w, "took\t%.1f s, %.2f MB received, %.2f MB sent\n", m.Duration, float64(m.BytesReceived)/1e6, float64(m.BytesSent)/1e6)
	return w.Flush()
}

func human(k measure.Metric, v float64) string {
	switch k {
	case measure.DownloadBitsPerSecond, measure.UploadBitsPerSecond:
		return fmt.Sprintf("%.2f Mbps", v/1e6)
	case measure.IdleLatencySeconds, measure.LoadedLatencySecondsDownload, measure.LoadedLatencySecondsUpload, measure.LatencySecondsMin, measure.LatencySecondsMedian, measure.LatencySecondsP95, measure.JitterSeconds,
		measure.DNSAnswerSeconds, measure.HTTPFirstByteSeconds, measure.HTTPLookupSeconds, measure.HTTPConnectSeconds, measure.HTTPTLSSeconds:
		return fmt.Sprintf("%.2f ms", v*1e3)
	case measure.PacketLossRatio, measure.RetransmitRatio:
		return fmt.Sprintf("%.1f%%", v*100)
	case measure.LinkReceiveBytesTotal, measure.LinkTransmitBytesTotal:
		return fmt.Sprintf("%.0f bytes", v)
	case measure.OpticalReceivePowerDBm, measure.MobileRSRPDBm:
		return fmt.Sprintf("%.2f dBm", v)
	case measure.MobileRSRQDB, measure.MobileSINRDB:
		return fmt.Sprintf("%.1f dB", v)
	case measure.MobileCellID:
		return fmt.Sprintf("%.0f", v)
	}
	if k.Binary() {
		return map[bool]string{true: "yes", false: "no"}[v > 0]
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
