package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/collector/admin"
	"github.com/pantau-desa/pantau/collector/maintenance"
)

// adminClient gives a command the flags that say which collector it is about, and
// returns how to reach that one.
func adminClient(c *cobra.Command) func() (*admin.Client, error) {
	var dir, config string
	c.PersistentFlags().StringVar(&dir, "dir", "", "data directory of the running collector")
	c.PersistentFlags().StringVar(&config, "config", "", "settings file of the running collector, instead of --dir")
	return func() (*admin.Client, error) {
		switch {
		case dir != "":
			return admin.NewClient(dir), nil
		case config != "":
			s, err := loadServe(config)
			if err != nil {
				return nil, cli.Usage(err)
			}
			return admin.NewClient(s.DataDir), nil
		}
		return admin.NewClient(defaultServe().DataDir), nil
	}
}

func reloadCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have the collector read its inventory again; one that is wrong changes nothing",
		Example: `  pantau check inventory /etc/pantau/inventory && pantau reload
  pantau reload --config /etc/pantau/pantau.yaml`,
		Args: cli.Args(cobra.NoArgs),
	}
	client := adminClient(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := client()
		if err != nil {
			return err
		}
		if err := cl.Reload(c.Context()); err != nil {
			return fmt.Errorf("not reloaded, the inventory before stays in force:\n%w", err)
		}
		fmt.Fprintln(c.OutOrStdout(), "the inventory is reloaded")
		return nil
	}
	return c
}

func maintenanceCommand() *cobra.Command {
	c := &cobra.Command{Use: "maintenance", Short: "Announced work, during which silence alerts nobody: add, list, end"}
	client := adminClient(c)

	var w maintenance.Window
	var p period
	add := &cobra.Command{
		Use:   "add --scope SCOPE --for 2h --reason TEXT",
		Short: "Announce work on a region, a site or a node of the network and all below it",
		Example: `  pantau maintenance add --scope ODC-01-1 --for 3h --reason "Pemindahan ODC"
  pantau maintenance add --scope 33.10.15 --from 2026-12-05T22:00+07:00 --to 2026-12-06T02:00+07:00 --reason "Perbaikan OLT"`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if w.From, w.To, err = p.times(); err != nil {
				return err
			}
			cl, err := client()
			if err != nil {
				return err
			}
			made, err := cl.AddMaintenance(c.Context(), w)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "maintenance %d: %s, %s to %s\n", made.ID, made.Scope, when(&made.From), when(&made.To))
			return nil
		},
	}
	add.Flags().StringVar(&w.Scope, "scope", "", "code of a region, id of a site or of a node")
	p.flags(add, "RFC 3339 time")
	add.Flags().StringVar(&w.Reason, "reason", "", "what is done, for those who ask why nobody was told")
	add.Flags().StringVar(&w.Author, "author", os.Getenv("USER"), "who announces it")
	_ = add.MarkFlagRequired("scope")
	_ = add.MarkFlagRequired("reason")

	var out string
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the work that goes on or is announced",
		Example: "  pantau maintenance list",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := client()
			if err != nil {
				return err
			}
			windows, err := cl.Maintenance(c.Context())
			if err != nil {
				return err
			}
			if out != "" {
				return cli.WriteJSON(out, map[string]any{"maintenance": windows})
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tSCOPE\tFROM\tTO\tAUTHOR\tREASON")
			for _, w := range windows {
				fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\n", w.ID, w.Scope, when(&w.From), when(&w.To), w.Author, w.Reason)
			}
			return t.Flush()
		},
	}
	list.Flags().StringVar(&out, "json", "", "write JSON to this file; - is standard output")

	end := &cobra.Command{
		Use:     "end ID",
		Short:   "End work now, or call it off",
		Example: "  pantau maintenance end 7",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := client()
			if err != nil {
				return err
			}
			if err := cl.EndMaintenance(c.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "maintenance %s is over\n", args[0])
			return nil
		},
	}
	c.AddCommand(add, list, end)
	return c
}

// period is the flags that say from when to when.
type period struct {
	from, to string
	length   time.Duration
}

func (p *period) flags(c *cobra.Command, to string) {
	c.Flags().StringVar(&p.from, "from", "", "RFC 3339 time, such as 2026-12-05T22:00+07:00; empty: now")
	c.Flags().StringVar(&p.to, "to", "", to)
	c.Flags().DurationVar(&p.length, "for", 0, "how long, instead of --to")
}

func (p *period) times() (from, to time.Time, err error) {
	from = time.Now()
	if p.from != "" {
		if from, err = instant("--from", p.from); err != nil {
			return from, to, err
		}
	}
	switch {
	case (p.to == "") == (p.length == 0):
		err = cli.Usage(errors.New("say when it ends: --to or --for"))
	case p.to != "":
		to, err = instant("--to", p.to)
	default:
		to = from.Add(p.length)
	}
	return from, to, err
}

// instant reads a time with its zone, with or without seconds.
func instant(flag, text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, cli.Usage(fmt.Errorf("%s: %q is not a time such as 2026-12-05T22:00+07:00", flag, text))
}
