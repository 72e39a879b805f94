package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/collector"
)

func rebuildCommand() *cobra.Command {
	var name, from, dir, config string
	c := &cobra.Command{
		Use:   "rebuild --sink NAME [--from TIME]",
		Short: "Have a store made again from the evidence, at the next start of the collector",
		Long: `Have a store made again from the evidence.

The collector must not run. The command takes a moment: it says where the store
begins again, and the next start of the collector fills it, beside its other work
(pantau_sink_lag_seconds and /readyz show how far it is).

  tsdb    The embedded store is moved away and made anew. Remove the old one once the
          new one is whole. What rules recorded is in the old one only.
  influx  What the bucket has stays, and is written again: nothing is doubled.`,
		Example: "  systemctl stop pantau\n  pantau rebuild --sink influx --from 2026-03-01 --config /etc/pantau/pantau.yaml\n  systemctl start pantau",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			since, err := dayOrInstant(from)
			if err != nil {
				return cli.Usage(err)
			}
			if !slices.Contains(collector.Sinks(), name) {
				return cli.Usage(fmt.Errorf("no sink is called %q: there are %s", name, strings.Join(collector.Sinks(), " and ")))
			}
			if dir != "" && config != "" {
				return cli.Usage(errors.New("say either --dir or --config"))
			}
			if dir == "" {
				dir = defaultServe().DataDir
			}
			if config != "" {
				s, err := loadServe(config)
				if err != nil {
					return cli.Usage(err)
				}
				dir = s.DataDir
			}
			done, err := collector.Rebuild(dir, name, since)
			if err != nil {
				return err
			}
			begin := "the beginning of the journal"
			if done.From.Segment > 0 {
				begin = fmt.Sprintf("segment %d of the journal", done.From.Segment)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s begins again from %s when the collector starts\n", done.Sink, begin)
			if done.Kept != "" {
				fmt.Fprintf(c.OutOrStdout(), "the old store is kept: remove %s once the new one is whole\n", done.Kept)
			}
			return nil
		},
	}
	c.Flags().StringVar(&name, "sink", "", "the store: "+strings.Join(collector.Sinks(), " or "))
	c.Flags().StringVar(&from, "from", "", "only what was received since: 2026-03-01, or 2026-03-01T08:00:00+07:00; by default all")
	c.Flags().StringVar(&dir, "dir", "", "data directory of the collector")
	c.Flags().StringVar(&config, "config", "", "settings file of the collector, instead of --dir")
	_ = c.MarkFlagRequired("sink")
	return c
}

// dayOrInstant reads a day, which begins at midnight here, or an instant; empty is zero.
func dayOrInstant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("--from %q is neither a day such as 2026-03-01 nor an instant such as 2026-03-01T08:00:00+07:00", text)
	}
	return t, nil
}
