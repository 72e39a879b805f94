package main

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/configs/settings"
	"github.com/pantau-desa/pantau/probe"
	"github.com/pantau-desa/pantau/probe/doctor"
	"github.com/pantau-desa/pantau/probe/instrument/optics"
	"github.com/pantau-desa/pantau/probe/instrument/router"
	"github.com/pantau-desa/pantau/probe/instrument/snmp"
	"github.com/pantau-desa/pantau/probe/instrument/speed"
)

// runSettings is the settings file. What is measured, and how often, comes from
// the collector; here is only what is of this box.
type runSettings struct {
	StateDir string `mapstructure:"state_dir"`
	Metrics  struct {
		Listen string `mapstructure:"listen"`
	} `mapstructure:"metrics"`
	LANGateway      string `mapstructure:"lan_gateway"`
	FirstHop        string `mapstructure:"first_hop"`
	UsageInterface  string `mapstructure:"usage_interface"`
	SpeedInstrument string `mapstructure:"speed_instrument"`
	// Router and ONT are asked by SNMP; their secrets stay in this file.
	Router struct {
		Interface      string        `mapstructure:"interface"`
		CounterRefresh time.Duration `mapstructure:"counter_refresh"`
		SNMP           snmp.Access   `mapstructure:"snmp"`
	} `mapstructure:"router"`
	ONT struct {
		Preset  optics.Preset `mapstructure:"preset"`
		Row     string        `mapstructure:"row"`
		OID     string        `mapstructure:"oid"`
		Unit    optics.Unit   `mapstructure:"unit"`
		Divisor float64       `mapstructure:"divisor"`
		SNMP    snmp.Access   `mapstructure:"snmp"`
	} `mapstructure:"ont"`
	Modem    string `mapstructure:"modem"`
	LogLevel string `mapstructure:"log_level"`
}

func defaults() runSettings {
	s := runSettings{StateDir: "/var/lib/pantau-probe", LogLevel: "info", SpeedInstrument: string(speed.Default)}
	s.Metrics.Listen = "127.0.0.1:7481"
	s.Router.CounterRefresh, s.Router.SNMP.Version = router.DefaultRefresh, snmp.Version2c
	s.ONT.Unit, s.ONT.Divisor, s.ONT.SNMP.Version = optics.DBm, 1, snmp.Version2c
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
	if s.Router.Interface != "" {
		merge(wrong, "router.snmp.", s.Router.SNMP.Check())
		if s.UsageInterface != "" {
			wrong["usage_interface"] = "is there beside router.interface: the traffic is counted in one place"
		}
	}
	if d := s.Router.CounterRefresh; d < time.Second || d > time.Hour {
		wrong["router.counter_refresh"] = fmt.Sprintf("%v is not within 1s and 1h", d)
	}
	merge(wrong, "ont.", s.ont().Check())
	if s.ONT.Preset != "" {
		merge(wrong, "ont.snmp.", s.ONT.SNMP.Check())
	}
	if n := speed.Name(s.SpeedInstrument); n != speed.Pantau && n != speed.SpeedtestGo {
		wrong["speed_instrument"] = fmt.Sprintf("is not one of %s, %s", speed.Pantau, speed.SpeedtestGo)
	}
	if _, ok := cli.Level(s.LogLevel); !ok {
		wrong["log_level"] = "is not one of debug, info, warn, error"
	}
	return wrong
}

func merge(wrong map[string]string, prefix string, more map[string]string) {
	for key, what := range more {
		wrong[prefix+key] = what
	}
}

func (s runSettings) router() router.Options {
	return router.Options{Access: s.Router.SNMP, Interface: s.Router.Interface, Refresh: s.Router.CounterRefresh}
}

func (s runSettings) ont() optics.Options {
	return optics.Options{Access: s.ONT.SNMP, Preset: s.ONT.Preset, Row: s.ONT.Row, OID: s.ONT.OID, Unit: s.ONT.Unit, Divisor: s.ONT.Divisor}
}

func (s runSettings) local() probe.Local {
	return probe.Local{LANGateway: s.LANGateway, FirstHop: s.FirstHop, UsageInterface: s.UsageInterface, Router: s.router(), ONT: s.ont(),
		Modem: s.Modem, SpeedInstrument: speed.Name(s.SpeedInstrument)}
}

// doctor is what a check looks at, with the settings of this file.
func (s runSettings) doctor(file string) doctor.Options {
	return doctor.Options{StateDir: s.StateDir, UsageInterface: s.UsageInterface, Router: s.router(), ONT: s.ont(),
		Modem: s.Modem != "", Signal: s.local().Signal(), SettingsFile: file, Secrets: s.hasSecrets(), Built: probe.BuildTime()}
}

// hasSecrets reports whether the file must not be read by everybody.
func (s runSettings) hasSecrets() bool { return s.Router.SNMP.HasSecrets() || s.ONT.SNMP.HasSecrets() }

// load reads a settings file over the defaults; without one they stand.
func load(file string) (runSettings, error) {
	s := defaults()
	if file == "" {
		return s, nil
	}
	return s, cli.Usage(settings.Load(file, &s))
}
