package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/cmd/internal/service"
	"github.com/pantau-desa/pantau/collector/registry"
	"github.com/pantau-desa/pantau/configs/settings"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
	"github.com/pantau-desa/pantau/probe/wire"
)

type targetSettings struct {
	Listen                string `mapstructure:"listen"`
	Connections           int    `mapstructure:"connections"`
	ConnectionsPerAddress int    `mapstructure:"connections_per_address"`
	Tests                 int    `mapstructure:"tests"`
	// Trust are collectors' ticket keys, ID is what the inventory calls this server.
	Trust []string `mapstructure:"trust"`
	ID    string   `mapstructure:"id"`
	// Capacity of the line in bits per second, each direction.
	Capacity float64 `mapstructure:"capacity"`
}

// keys are those that are trusted; the wrong ones are Check's matter.
func (s *targetSettings) keys() (keys []ed25519.PublicKey, err error) {
	for _, text := range s.Trust {
		k, err := wire.ParseTicketKey(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (s *targetSettings) Check() map[string]string {
	wrong := map[string]string{}
	if s.Connections < 0 {
		wrong["connections"] = "is negative; 0 means the default"
	}
	if s.ConnectionsPerAddress < 0 {
		wrong["connections_per_address"] = "is negative; 0 means the default"
	}
	if s.Tests < 0 {
		wrong["tests"] = "is negative; 0 means the default"
	}
	if _, err := s.keys(); err != nil {
		wrong["trust"] = err.Error() + ": copy what `pantau target-key` prints on the collector's machine"
	}
	if len(s.Trust) > 0 && s.ID == "" {
		wrong["id"] = "is empty, but trust is set: tickets are for one server, so name it as targets.csv does"
	}
	if s.Capacity < 0 || s.Capacity > 0 && s.Capacity < 1e6 {
		wrong["capacity"] = fmt.Sprintf("%g is in bits per second, from 1e6; 0 means that it is not known", s.Capacity)
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
			trust, err := s.keys()
			if err != nil {
				return cli.Usage(err)
			}
			t, err := target.New(target.Options{Addr: s.Listen, Logger: log, Registerer: prometheus.NewRegistry(),
				Trust: trust, ID: measure.TargetID(s.ID), Capacity: s.Capacity,
				Limits: target.Limits{Connections: s.Connections, ConnectionsPerAddress: s.ConnectionsPerAddress, Tests: s.Tests}})
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

// targetKeyCommand prints what measurement servers must trust.
func targetKeyCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:   "target-key --config FILE",
		Short: "The collector's public ticket key: what measurement servers that measure for its probes alone must trust",
		Long: `Print the collector's public ticket key, for the list "trust" in the settings of measurement servers.
A server that trusts a key tests only with a ticket that this collector gave to an enrolled probe.`,
		Example: "  pantau target-key --config /etc/pantau/pantau.yaml",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := loadServe(config)
			if err != nil {
				return cli.Usage(err)
			}
			key, err := registry.TicketKeyOf(filepath.Join(s.DataDir, "registry"))
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w: the collector makes the key when it starts for the first time", err)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), wire.TicketKeyText(key))
			return err
		},
	}
	c.Flags().StringVar(&config, "config", "", "settings file of the collector")
	_ = c.MarkFlagRequired("config")
	return c
}
