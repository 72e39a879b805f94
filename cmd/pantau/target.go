package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/configs/settings"
	"github.com/pantau-desa/pantau/probe/target"
)

type targetSettings struct {
	Listen                string `mapstructure:"listen"`
	Connections           int    `mapstructure:"connections"`
	ConnectionsPerAddress int    `mapstructure:"connections_per_address"`
}

func (s *targetSettings) Check() map[string]string {
	wrong := map[string]string{}
	if s.Connections < 0 {
		wrong["connections"] = "is negative; 0 means the default"
	}
	if s.ConnectionsPerAddress < 0 {
		wrong["connections_per_address"] = "is negative; 0 means the default"
	}
	return wrong
}

func targetCommand() *cobra.Command {
	var config, listen string
	c := &cobra.Command{
		Use:     "target",
		Short:   "A measurement server: what probes measure speed and latency against",
		Example: "  pantau target --listen :7442",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			s := targetSettings{Listen: target.DefaultAddr}
			if config != "" {
				if err := settings.Load(config, &s); err != nil {
					return cli.Usage(problems(err))
				}
			}
			if c.Flags().Changed("listen") {
				s.Listen = listen
			}
			t, err := target.New(target.Options{Addr: s.Listen, Logger: cli.Logger(os.Stderr, slog.LevelInfo), Registerer: prometheus.NewRegistry(),
				Limits: target.Limits{Connections: s.Connections, ConnectionsPerAddress: s.ConnectionsPerAddress}})
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "target: http://%s/speedtest\n", t.Addr())
			return t.Run(c.Context())
		},
	}
	c.Flags().StringVar(&config, "config", "", "settings file")
	c.Flags().StringVar(&listen, "listen", target.DefaultAddr, "address to listen on")
	return c
}
