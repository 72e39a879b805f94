package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/cmd/internal/service"
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

// loadTarget reads a settings file over the defaults; without one they stand.
func loadTarget(file string) (targetSettings, error) {
	s := targetSettings{Listen: target.DefaultAddr}
	if file == "" {
		return s, nil
	}
	return s, problems(settings.Load(file, &s))
}

// answers asks a measurement server for its shortest page. At its limit of
// connections it refuses or hangs up, which is a sign of life too; only one that
// accepts nothing any more lets the time pass.
func answers(addr net.Addr, patience time.Duration) bool {
	c, err := net.DialTimeout("tcp", addr.String(), patience)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return false
	}
	if _, err := io.WriteString(c, "GET /speedtest/latency.txt HTTP/1.0\r\n\r\n"); err != nil {
		return !errors.Is(err, os.ErrDeadlineExceeded)
	}
	_, err = c.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func targetCommand() *cobra.Command {
	var config, listen string
	c := &cobra.Command{
		Use:     "target",
		Short:   "A measurement server: what probes measure speed and latency against",
		Example: "  pantau target --listen :7442",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := loadTarget(config)
			if err != nil {
				return cli.Usage(err)
			}
			if c.Flags().Changed("listen") {
				s.Listen = listen
			}
			log := cli.Logger(os.Stderr, slog.LevelInfo)
			t, err := target.New(target.Options{Addr: s.Listen, Logger: log, Registerer: prometheus.NewRegistry(),
				Limits: target.Limits{Connections: s.Connections, ConnectionsPerAddress: s.ConnectionsPerAddress}})
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "target: http://%s/speedtest\n", t.Addr())
			return service.Run(c.Context(), service.Program{Run: t.Run, Alive: func() bool { return answers(t.Addr(), 5*time.Second) }, Logger: log,
				Status: func() string { return "answering on " + t.Addr().String() }})
		},
	}
	c.Flags().StringVar(&config, "config", "", "settings file")
	c.Flags().StringVar(&listen, "listen", target.DefaultAddr, "address to listen on")
	return c
}
