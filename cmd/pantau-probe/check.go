package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/probe/doctor"
)

// finding is one check as `check --json` writes it; its texts are in the language
// that was asked for.
type finding struct {
	Check   doctor.Check   `json:"check"`
	Verdict doctor.Verdict `json:"verdict"`
	Seen    string         `json:"seen"`
	Do      string         `json:"do,omitempty"`
}

// language is what an installer reads: Indonesian unless asked otherwise.
type language struct {
	verdicts map[doctor.Verdict]string
	checks   map[doctor.Check]string
	todo     string
	all      string // good
	some     string // problems, %d
	text     func(doctor.Text) string
}

func languages() map[string]language {
	return map[string]language{
		"id": {
			verdicts: map[doctor.Verdict]string{doctor.OK: "ok", doctor.Problem: "MASALAH", doctor.Skipped: "dilewati"},
			checks: map[doctor.Check]string{doctor.Identity: "identitas", doctor.Disk: "penyimpanan", doctor.ICMP: "ping", doctor.Usage: "pemakaian",
				doctor.DNS: "DNS", doctor.Collector: "kolektor", doctor.Heartbeat: "denyut", doctor.Clock: "jam", doctor.Target: "server ukur",
				doctor.Secrets: "rahasia", doctor.Optics: "cahaya", doctor.Signal: "sinyal"},
			todo: "Perbaikan", all: "Semua baik: kotak ini siap.", some: "%d masalah.",
			text: func(t doctor.Text) string { return t.ID },
		},
		"en": {
			verdicts: map[doctor.Verdict]string{doctor.OK: "ok", doctor.Problem: "PROBLEM", doctor.Skipped: "skipped"},
			checks: map[doctor.Check]string{doctor.Identity: "identity", doctor.Disk: "disk", doctor.ICMP: "ping", doctor.Usage: "usage",
				doctor.DNS: "DNS", doctor.Collector: "collector", doctor.Heartbeat: "heartbeat", doctor.Clock: "clock", doctor.Target: "target",
				doctor.Secrets: "secrets", doctor.Optics: "light", doctor.Signal: "signal"},
			todo: "To do", all: "All good: this box is ready.", some: "%d problems.",
			text: func(t doctor.Text) string { return t.EN },
		},
	}
}

func checkCommand() *cobra.Command {
	var config, out, lang string
	var patience time.Duration
	c := &cobra.Command{
		Use:   "check",
		Short: "What is missing on this box to be a probe, and what to do about it",
		Long: `Look at this box as an installer would: identity, disk, permission to ping, usage interface, DNS, collector,
heartbeat, clock, measurement servers; router, ONT and mobile modem where there are such. One line each, in Indonesian unless --lang en. It changes nothing and may run
beside the running probe; run it with sudo where the service has an account of its own.

The exit code is 0 when nothing is wrong, 1 when something is.`,
		Example: "  sudo pantau-probe check --config /etc/pantau/pantau-probe.yaml\n  pantau-probe check --lang en --json -",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			l, ok := languages()[lang]
			if !ok {
				return cli.Usage(fmt.Errorf("--lang %s: id or en", lang))
			}
			if patience < time.Second || patience > time.Minute {
				return cli.Usage(errors.New("--timeout is between 1s and 1m"))
			}
			s, err := load(config)
			if err != nil {
				return err
			}
			o := s.doctor(config)
			o.Patience = patience
			findings, err := doctor.Examine(c.Context(), o)
			if err != nil {
				return err
			}
			report := struct {
				OK     bool      `json:"ok"`
				Checks []finding `json:"checks"`
			}{OK: true}
			problems := 0
			for f := range findings {
				report.Checks = append(report.Checks, finding{f.Check, f.Verdict, l.text(f.Seen), l.text(f.Do)})
				if f.Verdict == doctor.Problem {
					report.OK = false
					problems++
				}
				if out != "-" { // as it is found: the network takes its time
					fmt.Fprintf(c.OutOrStdout(), "%-8s  %-11s  %s", l.verdicts[f.Verdict], l.checks[f.Check], l.text(f.Seen))
					if f.Verdict == doctor.Problem {
						fmt.Fprintf(c.OutOrStdout(), ". %s: %s", l.todo, l.text(f.Do))
					}
					fmt.Fprintln(c.OutOrStdout())
				}
			}
			if err := c.Context().Err(); err != nil {
				return err // cut short: what was good says nothing of the rest
			}
			if out != "" {
				err = cli.WriteJSON(out, report)
			}
			if out != "-" {
				if report.OK {
					fmt.Fprintln(c.OutOrStdout(), l.all)
				} else {
					fmt.Fprintf(c.OutOrStdout(), l.some+"\n", problems)
				}
			}
			if err == nil && !report.OK {
				err = cli.ErrSilent
			}
			return err
		},
	}
	c.Flags().StringVar(&config, "config", "", "settings file; without one the defaults hold")
	c.Flags().StringVar(&out, "json", "", "write JSON to this file; - is standard output")
	c.Flags().DurationVar(&patience, "timeout", 20*time.Second, "how long each answer of the network is waited for")
	c.Flags().StringVar(&lang, "lang", "id", "language of the findings: id or en")
	return c
}
