package demo

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pantau-desa/pantau/probe/netlab"
)

// introduce says where to look and what to try. The first two lines are for
// scripts as well.
func (r *run) introduce() {
	r.say("halaman: %s", r.page())
	r.say("target: %s", r.targetURL())
	r.say("folder: %s", r.opt.Dir)
	if r.world == nil {
		return
	}
	v, odc := r.world.Villages[0], r.world.ODCs[0]
	r.say("\nSIMULASI: %d villages, each a box and a router in a namespace of their own, behind a shaped line.", len(r.lines))
	r.say("Cut the line of %s:\n  %s\nand mend it:\n  %s", v.Name, v.Cut, v.Restore)
	r.say("Cut the cable of a whole ODC (%d villages):\n  %s\nand mend it:\n  %s", len(odc.Villages), odc.Cut, odc.Restore)
	r.say("A village is down after 170 s of silence. Ctrl-C ends the demo and removes everything but its folder.\n")
}

// table redraws the villages' figures on a terminal. In a pipe it stays quiet but
// for one line when every village has its first figures.
func (r *run) table(ctx context.Context) error {
	every := time.Second
	t := time.NewTicker(every)
	defer t.Stop()
	drawn := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		figures := r.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.noticeFirst(figures)
		if !r.opt.Terminal {
			if r.first > 0 {
				t.Reset(time.Minute)
			}
			continue
		}
		text := r.draw(figures)
		if drawn > 0 {
			fmt.Fprintf(r.opt.Out, "\x1b[%dA\x1b[J", drawn)
		}
		fmt.Fprint(r.opt.Out, text)
		drawn = strings.Count(text, "\n")
	}
}

// noticeFirst notes when every village had a first figure on the page.
func (r *run) noticeFirst(figures []VillageReport) {
	if r.first > 0 {
		return
	}
	for _, v := range figures {
		if !v.latency || !v.reach {
			return
		}
	}
	r.first = time.Since(r.began)
	if !r.opt.Terminal {
		r.say("every village has its first figures after %.0f s", r.first.Seconds())
	}
}

func (r *run) draw(figures []VillageReport) string {
	var b strings.Builder
	fmt.Fprintf(&b, "after %s   (measured / what the line carries, Mbps of payload)\n", time.Since(r.began).Round(time.Second))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VILLAGE\tSTATE\tDOWN, MEDIAN\tUP, MEDIAN\tTESTS\tLATENCY\tUSED\tCUT WITH")
	for i, v := range figures {
		lat := "-"
		if v.latency {
			lat = fmt.Sprintf("%.1f ms", v.LatencySeconds*1e3)
		}
		used := "-"
		if v.usage {
			used = fmt.Sprintf("%.1f MB", v.UsageBytesReceived/1e6)
		}
		cut := ""
		if r.world != nil {
			cut = r.world.Villages[i].Cut
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", v.Name, v.State, against(v.MedianDownload, v.ShapedDownload),
			against(v.MedianUpload, v.ShapedUpload), v.Tests, lat, used, cut)
	}
	w.Flush()
	return b.String()
}

func against(median, shaped float64) string {
	m := "-"
	if median > 0 {
		m = fmt.Sprintf("%.1f", median/1e6)
	}
	if shaped == 0 {
		return m
	}
	return fmt.Sprintf("%s / %.1f", m, netlab.PayloadRate(shaped)/1e6)
}

// note says something once.
func (r *run) note(key, format string, args ...any) {
	r.mu.Lock()
	first := !r.said[key]
	r.said[key] = true
	r.mu.Unlock()
	r.log.Warn(fmt.Sprintf(format, args...))
	if first && !r.opt.Terminal {
		r.say(format, args...)
	}
}
