package main

import (
	"errors"
	"fmt"
	"maps"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/alerts/rules"
	"github.com/pantau-desa/pantau/cmd/internal/cli"
)

func rulesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "rules",
		Short:   "The rules by which alerts are found",
		Example: "  pantau rules export /tmp/rules\n  pantau check rules /etc/pantau/rules",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return cli.Usage(errors.New("say what to do: pantau rules export DIR, or pantau check rules DIR"))
		},
	}
	c.AddCommand(&cobra.Command{
		Use:   "export DIR",
		Short: "Write the built-in rule files, for a Prometheus of your own",
		Long: `Writes the rule files as the collector evaluates them, with a README.md.
The collector goes on alerting: load what is exported without an Alertmanager, or people are told everything twice.`,
		Example: "  pantau rules export /etc/prometheus/pantau",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := rules.Export(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %d rule files, and README.md on how to use them\n", args[0], len(rules.Files()))
			return nil
		},
	})
	return c
}

// checkRules says everything that is wrong with a rule directory, as it would be
// in force beside the built-in files.
func checkRules(c *cobra.Command, dir string) error {
	extra, err := rules.ReadDir(dir)
	if err != nil {
		fmt.Fprintln(c.ErrOrStderr(), err)
		return cli.ErrSilent
	}
	if wrong := rules.Check(rules.Overlay(extra)); len(wrong) > 0 {
		for _, p := range wrong {
			fmt.Fprintln(c.OutOrStdout(), p)
		}
		fmt.Fprintf(c.ErrOrStderr(), "%s: %d problems\n", dir, len(wrong))
		return cli.ErrSilent
	}
	instead := 0
	for name := range maps.Keys(extra) {
		if _, ok := rules.Files()[name]; ok {
			instead++
		}
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: good: %d rule files, %d of them in the place of built-in ones\n", dir, len(extra), instead)
	return nil
}
