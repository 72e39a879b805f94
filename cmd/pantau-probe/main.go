// Command pantau-probe is the village side of Pantau Desa: it measures the line
// and pushes what it measured to the collector.
package main

import (
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/probe"
)

func main() {
	// Boxes in villages have 64 MB and more to do: collect early, unless told
	// otherwise by the environment.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	root := &cobra.Command{
		Use:   "pantau-probe",
		Short: "Measures a village's line and pushes the results to the collector",
		Example: `  pantau-probe enroll --collector https://kolektor.example.id:7443 --code XXXX-...
  pantau-probe run --config /etc/pantau/pantau-probe.yaml
  pantau-probe measure speed --target http://ukur.example.id:7442/speedtest`,
		Version: probe.Version(),
	}
	root.AddCommand(enrollCommand(), checkCommand(), runCommand(), measureCommand())
	os.Exit(cli.Main(root))
}
