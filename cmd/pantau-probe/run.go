package main

import (
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/cmd/internal/service"
	"github.com/pantau-desa/pantau/probe"
	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/enroll"
	"github.com/pantau-desa/pantau/probe/wire"
)

func runCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "run",
		Short:   "Measure and push until told to end",
		Example: "  pantau-probe run --config /etc/pantau/pantau-probe.yaml",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := load(config)
			if err != nil {
				return err
			}
			level, _ := cli.Level(s.LogLevel)
			log := cli.Logger(os.Stderr, level)
			o := probe.Options{StateDir: s.StateDir, Local: s.local(), Software: probe.Version(), Built: probe.BuildTime(),
				Logger: log}
			if s.Metrics.Listen != "" {
				if o.Metrics, err = net.Listen("tcp", s.Metrics.Listen); err != nil {
					return fmt.Errorf("metrics.listen: %w: is another pantau-probe running?", err)
				}
			}
			p, err := probe.New(o)
			if err != nil {
				return err
			}
			return service.Run(c.Context(), service.Program{Run: p.Run, Alive: p.Alive, Status: p.Status, Logger: log})
		},
	}
	c.Flags().StringVar(&config, "config", "", "settings file; without one the defaults hold")
	return c
}

func enrollCommand() *cobra.Command {
	var config, collector, code, dir string
	c := &cobra.Command{
		Use:     "enroll --collector URL --code CODE",
		Short:   "Make this box a probe, with the claim code from `pantau probe add`",
		Example: "  pantau-probe enroll --collector https://kolektor.example.id:7443 --code 7K3M-...",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := load(config)
			if err != nil {
				return err
			}
			if dir != "" {
				s.StateDir = dir
			}
			claim, err := wire.ParseClaimCode(code)
			if err != nil {
				return cli.Usage(err)
			}
			clocks, err := clock.Open()
			if err != nil {
				return err
			}
			id, err := enroll.State{Dir: s.StateDir}.Enroll(c.Context(), enroll.Request{Collector: collector, Code: claim,
				Boot: clocks.Now().Boot, Software: probe.Version()})
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "enrolled: this box is probe %s at site %s\n", id.Probe, id.Site)
			return nil
		},
	}
	c.Flags().StringVar(&config, "config", "", "settings file, for its state_dir")
	c.Flags().StringVar(&dir, "state-dir", "", "state directory, instead of the settings file's")
	c.Flags().StringVar(&collector, "collector", "", "the collector's address, such as https://kolektor.example.id:7443")
	c.Flags().StringVar(&code, "code", "", "claim code: 44 letters and digits in groups of four")
	_ = c.MarkFlagRequired("collector")
	_ = c.MarkFlagRequired("code")
	return c
}
