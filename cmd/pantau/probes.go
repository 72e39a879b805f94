package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/probe/measure"
)

func probeCommand() *cobra.Command {
	c := &cobra.Command{Use: "probe", Short: "Claim codes and keys of probes: add, list, revoke"}
	client := adminClient(c)

	var site, id, out string
	add := &cobra.Command{
		Use:     "add --site SITE",
		Short:   "Make a claim code for the probe that the inventory has at a site",
		Example: "  pantau probe add --site klaten-0001",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := client()
			if err != nil {
				return err
			}
			claim, err := cl.Add(c.Context(), measure.SiteID(site), measure.ProbeID(id))
			if err != nil {
				return err
			}
			if out != "" {
				return cli.WriteJSON(out, claim)
			}
			fmt.Fprintf(c.OutOrStdout(), "probe  %s at site %s\ncode   %s\nuntil  %s, for one box\n\nOn the box:\n  pantau-probe enroll --collector https://ADDRESS:7443 --code %s\n",
				claim.Probe, claim.Site, claim.Code, claim.Expires.Local().Format("2 Jan 2006 15:04 MST"), claim.Code)
			return nil
		},
	}
	add.Flags().StringVar(&site, "site", "", "site id, as in sites.csv")
	add.Flags().StringVar(&id, "probe", "", "probe id, where a site has several")
	add.Flags().StringVar(&out, "json", "", "write JSON to this file; - is standard output")
	_ = add.MarkFlagRequired("site")

	var listOut string
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the probes that were ever given a claim code",
		Example: "  pantau probe list --dir /var/lib/pantau",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := client()
			if err != nil {
				return err
			}
			probes, err := cl.List(c.Context())
			if err != nil {
				return err
			}
			if listOut != "" {
				return cli.WriteJSON(listOut, map[string]any{"probes": json.RawMessage(mustJSON(probes))})
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "PROBE\tSITE\tENROLLED\tREVOKED\tCODE UNTIL\tLAST BEAT")
			for _, p := range probes {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Probe, p.Site, when(p.EnrolledAt), when(p.RevokedAt), when(p.ClaimExpires), when(p.LastBeat))
			}
			return w.Flush()
		},
	}
	list.Flags().StringVar(&listOut, "json", "", "write JSON to this file; - is standard output")

	revoke := &cobra.Command{
		Use:     "revoke PROBE",
		Short:   "End a probe's key: what it sends is refused from now on",
		Example: "  pantau probe revoke kl-0001",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := client()
			if err != nil {
				return err
			}
			if err := cl.Revoke(c.Context(), measure.ProbeID(args[0])); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is revoked\n", args[0])
			return nil
		},
	}
	c.AddCommand(add, list, revoke)
	return c
}

func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func mustJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of strings and times
	}
	return raw
}
