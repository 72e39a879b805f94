// Command pantau is the server side of Pantau Desa and the operator's tool: the
// collector, the measurement server, the demo, and the checks.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/probe"
)

func main() {
	root := &cobra.Command{
		Use:   "pantau",
		Short: "Network quality audit for every village: collector, target, demo and checks",
		Example: `  pantau demo                                   the whole on this machine, on real measurements
  pantau serve --config /etc/pantau/pantau.yaml  the collector
  pantau check inventory configs/klaten          everything wrong with an inventory, at once`,
		Version: probe.Version(),
	}
	root.AddCommand(serveCommand(), targetCommand(), targetKeyCommand(), demoCommand(), checkCommand(), probeCommand(), maintenanceCommand(), silenceCommand(),
		reloadCommand(), rebuildCommand(), dashboardsCommand(), rulesCommand())
	os.Exit(cli.Main(root))
}
