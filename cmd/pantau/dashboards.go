package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/dashboards"
)

func dashboardsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "dashboards",
		Short:   "The Grafana dashboards, as files",
		Example: "  pantau dashboards export /etc/grafana/pantau-desa",
		Args:    cli.Args(cobra.NoArgs),
	}
	var o dashboards.Options
	export := &cobra.Command{
		Use:   "export DIR",
		Short: "Write dashboards, provisioning and how to use them below DIR",
		Long: `Writes below DIR: the dashboards (json), what Grafana needs to find them and the
collector (provisioning), a compose file for those who have Docker, and README.md,
which says what to click without it. Files that are there are replaced.`,
		Example: `  pantau dashboards export /etc/grafana/pantau-desa
  pantau dashboards export grafana --data-source http://10.0.0.5:7480 --pages https://pantau.example.id`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			o.Dir = args[0]
			written, err := dashboards.Export(o)
			if len(written) == 0 && err != nil { // refused before anything was written
				return cli.Usage(err)
			}
			for _, name := range written {
				fmt.Fprintln(c.OutOrStdout(), name)
			}
			return err
		},
	}
	export.Flags().StringVar(&o.DataSource, "data-source", dashboards.DefaultCollector, "the collector's office side, as Grafana reaches it")
	export.Flags().StringVar(&o.Pages, "pages", dashboards.DefaultCollector, "the same, as the readers' browsers reach it: where links lead")
	c.AddCommand(export)
	return c
}
