package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/alerts"
	"github.com/pantau-desa/pantau/cmd/internal/cli"
)

func silenceCommand() *cobra.Command {
	c := &cobra.Command{Use: "silence", Short: "Tell nobody of something for a while: add, list, expire"}
	client := adminClient(c)

	var x alerts.Silence
	var p period
	add := &cobra.Command{
		Use:   "add --scope SCOPE --for 2h --reason TEXT",
		Short: "Mail nobody about a region, a node of the network and all below it, or an incident",
		Long: `Mail nobody about a region, a node of the network and all below it, or an incident.

What is muted is not mailed later either: it stays on the pages and in the weekly summary. An incident that reaches
beyond the scope is mailed. Times of announced work are better written down with: pantau maintenance`,
		Example: `  pantau silence add --scope 33.10.15 --for 4h --reason "Listrik padam bergilir"
  pantau silence add --scope OLT-15 --to 2026-12-06T02:00+07:00 --reason "Penyedia sudah dikabari"
  pantau silence add --scope G-3310-261205-04 --for 12h --reason "Sudah ditangani"`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if x.From, x.Until, err = p.times(); err != nil {
				return err
			}
			cl, err := client()
			if err != nil {
				return err
			}
			made, err := cl.Silence(c.Context(), x)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "silence %.8s: %s %s, %s to %s\n", made.ID, made.By, made.Of, when(&made.From), when(&made.Until))
			return nil
		},
	}
	add.Flags().StringVar(&x.Of, "scope", "", "code of a regency, district or village, id of a node, or number of an incident")
	p.flags(add, "RFC 3339 time; at most 30 days on")
	add.Flags().StringVar(&x.Reason, "reason", "", "why, for those who ask why nobody was told")
	add.Flags().StringVar(&x.Author, "author", os.Getenv("USER"), "who decides it")
	_ = add.MarkFlagRequired("scope")
	_ = add.MarkFlagRequired("reason")

	var out string
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the silences that are in force or to come",
		Example: "  pantau silence list",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := client()
			if err != nil {
				return err
			}
			all, err := cl.Silences(c.Context())
			if err != nil {
				return err
			}
			if out != "" {
				return cli.WriteJSON(out, map[string]any{"silences": all})
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tBY\tSCOPE\tNAME\tFROM\tTO\tAUTHOR\tREASON")
			for _, x := range all {
				fmt.Fprintf(t, "%.8s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.ID, x.By, x.Of, x.Name, when(&x.From), when(&x.Until), x.Author, x.Reason)
			}
			return t.Flush()
		},
	}
	list.Flags().StringVar(&out, "json", "", "write JSON to this file; - is standard output")

	expire := &cobra.Command{
		Use:     "expire ID",
		Short:   "End a silence now, or call it off",
		Example: "  pantau silence expire 5b2f08aa",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := client()
			if err != nil {
				return err
			}
			ended, err := cl.Expire(c.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "silence %.8s (%s %s) is over\n", ended.ID, ended.By, ended.Of)
			return nil
		},
	}
	c.AddCommand(add, list, expire)
	return c
}
