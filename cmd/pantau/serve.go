package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/cmd/internal/service"
	"github.com/pantau-desa/pantau/collector"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/ingest"
	"github.com/pantau-desa/pantau/collector/provision"
	"github.com/pantau-desa/pantau/collector/sink/influx"
	"github.com/pantau-desa/pantau/collector/ticket"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/configs/secret"
	"github.com/pantau-desa/pantau/configs/settings"
	"github.com/pantau-desa/pantau/probe"
)

type serveSettings struct {
	DataDir   string `mapstructure:"data_dir"`
	Inventory string `mapstructure:"inventory"`
	// Schematic says that the inventory's positions are not true ones.
	Schematic bool `mapstructure:"schematic_positions"`
	Ingest    struct {
		Listen string   `mapstructure:"listen"`
		Names  []string `mapstructure:"names"`
	} `mapstructure:"ingest"`
	Office struct {
		Listen string `mapstructure:"listen"`
	} `mapstructure:"office"`
	Probes struct {
		Light         time.Duration `mapstructure:"light"`
		Seal          time.Duration `mapstructure:"seal"`
		Transition    time.Duration `mapstructure:"transition"`
		Heartbeat     time.Duration `mapstructure:"heartbeat"`
		SpeedMean     time.Duration `mapstructure:"speed_mean"`
		SpeedDuration time.Duration `mapstructure:"speed_duration"`
		Rare          time.Duration `mapstructure:"rare"`

		PeakShare      float64 `mapstructure:"peak_share"`
		BudgetFiberGB  float64 `mapstructure:"budget_fiber_gb"`
		BudgetOtherGB  float64 `mapstructure:"budget_other_gb"`
		BudgetMobileGB float64 `mapstructure:"budget_mobile_gb"`
		BudgetVSATGB   float64 `mapstructure:"budget_vsat_gb"`
	} `mapstructure:"probes"`
	Tickets struct {
		PerTarget int `mapstructure:"per_target"`
		Total     int `mapstructure:"total"`
	} `mapstructure:"tickets"`
	States struct {
		DownAfter time.Duration `mapstructure:"down_after"`
	} `mapstructure:"states"`
	Incidents struct {
		Confirm          time.Duration `mapstructure:"confirm"`
		ConfirmAlone     time.Duration `mapstructure:"confirm_alone"`
		Recovered        time.Duration `mapstructure:"recovered"`
		GroupRecovered   time.Duration `mapstructure:"group_recovered"`
		AwaitRecords     time.Duration `mapstructure:"await_records"`
		WithUplinkUnsure time.Duration `mapstructure:"with_uplink_unsure"`
	} `mapstructure:"incidents"`
	Uplink struct {
		Check []string `mapstructure:"check"`
	} `mapstructure:"uplink"`
	Mail  mailSettings `mapstructure:"mail"`
	Store struct {
		Retention time.Duration `mapstructure:"retention"`
	} `mapstructure:"store"`
	Rules struct {
		Dir string `mapstructure:"dir"`
	} `mapstructure:"rules"`
	Influx   influxSettings `mapstructure:"influx"`
	LogLevel string         `mapstructure:"log_level"`
}

// influxSettings say which InfluxDB gets a copy of every sample; without a URL none
// does.
type influxSettings struct {
	URL       string      `mapstructure:"url"`
	Org       string      `mapstructure:"org"`
	Bucket    string      `mapstructure:"bucket"`
	Token     secret.Text `mapstructure:"token"`
	TokenFile string      `mapstructure:"token_file"`
}

// credentials is where systemd puts a service's secrets while the service runs: that
// they are not there is no mistake in the settings.
const credentials = "/run/credentials/"

// options is nil if there is no such server.
func (s influxSettings) options() (*influx.Options, error) {
	if s.URL == "" {
		return nil, nil
	}
	o := &influx.Options{URL: s.URL, Org: s.Org, Bucket: s.Bucket, Token: s.Token}
	if s.TokenFile != "" {
		var err error
		if o.Token, err = secret.Read(s.TokenFile); err != nil {
			return nil, fmt.Errorf("influx.token_file: %w", err)
		}
	}
	return o, nil
}

// check says what is wrong, by key within the section.
func (s influxSettings) check() map[string]string {
	if s == (influxSettings{}) {
		return nil
	}
	if s.URL == "" {
		return map[string]string{"url": "is empty, but other keys of the section are set: name the server, or take them out"}
	}
	wrong := influx.Options{URL: s.URL, Org: s.Org, Bucket: s.Bucket, Token: s.Token}.Check()
	if s.Token != "" && s.TokenFile != "" {
		wrong["token"] = "is set beside token_file: keep one of them"
	} else if _, err := s.options(); err != nil && !(errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(s.TokenFile, credentials)) {
		wrong["token_file"] = strings.TrimPrefix(err.Error(), "influx.token_file: ")
	}
	return wrong
}

func defaultServe() serveSettings {
	s := serveSettings{DataDir: "/var/lib/pantau", Inventory: "/etc/pantau/inventory", LogLevel: "info"}
	s.Ingest.Listen = ingest.DefaultAddr
	s.Office.Listen = "127.0.0.1:7480"
	return s
}

// timers are those of incidents; zero ones take the engine's defaults.
func (s *serveSettings) timers() incident.Timers {
	i := s.Incidents
	return incident.Timers{Confirm: i.Confirm, ConfirmAlone: i.ConfirmAlone, Good: i.Recovered, GoodGroup: i.GroupRecovered,
		Records: i.AwaitRecords, UplinkPatience: i.WithUplinkUnsure}
}

func (s *serveSettings) schedule() provision.Schedule { return provision.Schedule(s.Probes) }

// Check implements settings.Checker.
func (s *serveSettings) Check() map[string]string {
	wrong := map[string]string{}
	for key, v := range map[string]string{"data_dir": s.DataDir, "inventory": s.Inventory} {
		if v == "" {
			wrong[key] = "is empty: name a directory"
		}
	}
	for key, v := range map[string]string{"ingest.listen": s.Ingest.Listen, "office.listen": s.Office.Listen} {
		if _, _, err := net.SplitHostPort(v); err != nil {
			wrong[key] = "is not HOST:PORT or :PORT"
		}
	}
	for key, what := range s.schedule().Check() {
		wrong["probes."+key] = what
	}
	for key, what := range ticket.Limits(s.Tickets).Check() {
		wrong["tickets."+key] = what
	}
	if d := s.States.DownAfter; d != 0 && (d < time.Minute || d > time.Hour) {
		wrong["states.down_after"] = fmt.Sprintf("%v is not within 1m and 1h; three heartbeats must fit in", d)
	}
	for key, d := range map[string]time.Duration{"confirm": s.Incidents.Confirm, "confirm_alone": s.Incidents.ConfirmAlone} {
		if d != 0 && (d < 75*time.Second || d > time.Hour) {
			wrong["incidents."+key] = fmt.Sprintf("%v is not within 75s and 1h; a silence is suspect after 75 s", d)
		}
	}
	for key, d := range map[string]time.Duration{"recovered": s.Incidents.Recovered, "group_recovered": s.Incidents.GroupRecovered,
		"await_records": s.Incidents.AwaitRecords, "with_uplink_unsure": s.Incidents.WithUplinkUnsure} {
		if d != 0 && (d < 10*time.Second || d > 6*time.Hour) {
			wrong["incidents."+key] = fmt.Sprintf("%v is not within 10s and 6h", d)
		}
	}
	for _, a := range s.Uplink.Check {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			wrong["uplink.check"] = fmt.Sprintf("%q is not HOST:PORT", a)
		}
	}
	for key, what := range s.Mail.check() {
		wrong["mail."+key] = what
	}
	if d := s.Store.Retention; d != 0 && d < 3*24*time.Hour {
		wrong["store.retention"] = fmt.Sprintf("%v is less than 3d: late results would have nowhere to go", d)
	}
	for key, what := range s.Influx.check() {
		wrong["influx."+key] = what
	}
	if _, ok := cli.Level(s.LogLevel); !ok {
		wrong["log_level"] = "is not one of debug, info, warn, error"
	}
	return wrong
}

func loadServe(file string) (*serveSettings, error) {
	s := defaultServe()
	if err := settings.Load(file, &s); err != nil {
		return nil, problems(err)
	}
	return &s, nil
}

func serveCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "serve --config FILE",
		Short:   "The collector: takes what probes send, keeps it, shows it",
		Example: "  pantau serve --config /etc/pantau/pantau.yaml",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := loadServe(config)
			if err != nil {
				return cli.Usage(err)
			}
			return serve(c.Context(), s)
		},
	}
	c.Flags().StringVar(&config, "config", "", "settings file")
	_ = c.MarkFlagRequired("config")
	return c
}

func serve(ctx context.Context, s *serveSettings) error {
	level, _ := cli.Level(s.LogLevel)
	office, err := net.Listen("tcp", s.Office.Listen)
	if err != nil {
		return fmt.Errorf("office.listen: %w", err)
	}
	log := cli.Logger(os.Stderr, level)
	copies, err := s.Influx.options()
	if err != nil {
		return cli.Usage(errors.Join(err, closeQuietly(office)))
	}
	mail, err := s.Mail.alerts()
	if err != nil {
		return errors.Join(cli.Usage(err), closeQuietly(office))
	}
	col, err := collector.New(ctx, collector.Options{
		DataDir: s.DataDir, Inventory: s.Inventory, Names: s.Ingest.Names, IngestAddr: s.Ingest.Listen, Office: office,
		Schedule: s.schedule(), Tickets: ticket.Limits(s.Tickets), DownAfter: s.States.DownAfter, Incidents: s.timers(), Uplink: s.Uplink.Check, Alerts: mail, Retention: s.Store.Retention, RuleDir: s.Rules.Dir, Influx: copies, Schematic: s.Schematic,
		Software: probe.Version(), Logger: log,
	})
	if err != nil {
		err = errors.Join(err, closeQuietly(office))
		var wrong inventory.Problems
		if errors.As(err, &wrong) {
			return cli.Usage(fmt.Errorf("%d problems with the inventory, see `pantau check inventory %s`; the first is\n%v", len(wrong), s.Inventory, wrong[0]))
		}
		return err
	}
	stop := reloadOnHangup(ctx, col)
	defer stop()
	return service.Run(ctx, service.Program{Run: col.Run, Ready: col.Ready(), Alive: col.Alive, Status: col.Status, Logger: log})
}

// reloadOnHangup reads the inventory again on SIGHUP, until stop is called. What is
// wrong the collector logs.
func reloadOnHangup(ctx context.Context, col *collector.Collector) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				_ = col.Reload(ctx)
			}
		}
	}()
	return func() { signal.Stop(hangup); cancel(); <-done }
}

func closeQuietly(l net.Listener) error {
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
