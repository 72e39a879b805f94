package main

import (
	"net"
	"net/netip"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/configs/settings"
	"github.com/pantau-desa/pantau/probe"
)

// runSettings is the settings file. What is measured, and how often, comes from
// the collector; here is only what is of this box.
type runSettings struct {
	StateDir string `mapstructure:"state_dir"`
	Metrics  struct {
		Listen string `mapstructure:"listen"`
	} `mapstructure:"metrics"`
	LANGateway     string `mapstructure:"lan_gateway"`
	FirstHop       string `mapstructure:"first_hop"`
	UsageInterface string `mapstructure:"usage_interface"`
	LogLevel       string `mapstructure:"log_level"`
}

func defaults() runSettings {
	s := runSettings{StateDir: "/var/lib/pantau-probe", LogLevel: "info"}
	s.Metrics.Listen = "127.0.0.1:7481"
	return s
}

// Check implements settings.Checker.
func (s *runSettings) Check() map[string]string {
	wrong := map[string]string{}
	if s.StateDir == "" {
		wrong["state_dir"] = "is empty: name the directory that holds the identity and the spool"
	}
	if s.Metrics.Listen != "" {
		if _, _, err := net.SplitHostPort(s.Metrics.Listen); err != nil {
			wrong["metrics.listen"] = "is not HOST:PORT; leave it empty to serve no metrics"
		}
	}
	for key, v := range map[string]string{"lan_gateway": s.LANGateway, "first_hop": s.FirstHop} {
		if _, err := netip.ParseAddr(v); v != "" && err != nil {
			wrong[key] = "is not an IP address"
		}
	}
	if _, ok := cli.Level(s.LogLevel); !ok {
		wrong["log_level"] = "is not one of debug, info, warn, error"
	}
	return wrong
}

func (s runSettings) local() probe.Local {
	return probe.Local{LANGateway: s.LANGateway, FirstHop: s.FirstHop, UsageInterface: s.UsageInterface}
}

// load reads a settings file over the defaults; without one they stand.
func load(file string) (runSettings, error) {
	s := defaults()
	if file == "" {
		return s, nil
	}
	return s, cli.Usage(settings.Load(file, &s))
}
