package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/ticket"
	"github.com/pantau-desa/pantau/probe/target"
)

const examples = "../../configs/examples"

// commented is a key that an example shows without setting it.
var commented = regexp.MustCompile(`(?m)^( *)# ([a-z_]+:( .*)?)$`)

// uncommented writes an example anew with every key set, and returns its name.
func uncommented(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, commented.ReplaceAll(raw, []byte("$1$2")), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// names every key of settings in an example.
func namesEveryKey(t *testing.T, file string, settings any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	var keys func(of reflect.Type, indent string)
	keys = func(of reflect.Type, indent string) {
		for f := range of.Fields() {
			key := f.Tag.Get("mapstructure")
			if !regexp.MustCompile(`(?m)^` + indent + key + `:`).Match(raw) {
				t.Errorf("%s: nothing is said of %s%s", file, indent, key)
			}
			n++
			if f.Type.Kind() == reflect.Struct {
				keys(f.Type, indent+"  ")
			}
		}
	}
	keys(reflect.TypeOf(settings), "")
	if n < 3 {
		t.Fatalf("%d keys were looked for", n)
	}
}

func TestExampleOfTheCollector(t *testing.T) {
	want := defaultServe()
	got, err := loadServe(filepath.Join(examples, "pantau.yaml"))
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("as it is, the example changes the defaults: %v\n%+v\n%+v", err, got, want)
	}
	file := uncommented(t, "pantau.yaml")
	namesEveryKey(t, file, want)
	if got, err = loadServe(file); err != nil {
		t.Fatal(err)
	}
	// A zero leaves these to the rooms: what the example says of them.
	want.Probes.Light, want.Probes.Seal, want.Probes.Transition = time.Minute, 5*time.Minute, time.Minute
	want.Probes.Heartbeat, want.Probes.SpeedMean, want.Probes.SpeedDuration = 30*time.Second, 6*time.Hour, 15*time.Second
	want.Probes.Rare, want.Probes.PeakShare = time.Hour, 0.3333
	want.Probes.BudgetFiberGB, want.Probes.BudgetOtherGB, want.Probes.BudgetMobileGB, want.Probes.BudgetVSATGB = 30, 10, 3, 1.5
	want.States.DownAfter, want.Store.Retention = 170*time.Second, 400*24*time.Hour
	want.Incidents.Confirm, want.Incidents.ConfirmAlone = 170*time.Second, 230*time.Second
	want.Incidents.Recovered, want.Incidents.GroupRecovered = 3*time.Minute, 5*time.Minute
	want.Incidents.AwaitRecords, want.Incidents.WithUplinkUnsure = 10*time.Minute, 10*time.Minute
	want.Mail.Retry, want.Mail.GiveUp, want.Mail.Gather, want.Mail.Wider = time.Minute, 24*time.Hour, time.Minute, 6*time.Hour
	want.Tickets.PerTarget, want.Tickets.Total = ticket.DefaultPerTarget, ticket.DefaultTotal
	want.Ingest.Names, want.Uplink.Check = []string{}, []string{}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("the example shows other values than the defaults:\n%+v\n%+v", *got, want)
	}
}

func TestExampleOfTheTarget(t *testing.T) {
	want := targetSettings{Listen: target.DefaultAddr}
	got, err := loadTarget(filepath.Join(examples, "pantau-target.yaml"))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("as it is, the example changes the defaults: %v, %+v", err, got)
	}
	file := uncommented(t, "pantau-target.yaml")
	namesEveryKey(t, file, want)
	want.Connections, want.ConnectionsPerAddress, want.Tests = 1024, 128, 50 // as target.Limits says
	want.Trust = []string{}
	if got, err = loadTarget(file); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the example shows other values than the defaults: %v, %+v", err, got)
	}
}
