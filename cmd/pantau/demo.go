package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo"
)

func demoCommand() *cobra.Command {
	o := demo.Options{Out: os.Stdout}
	var out string
	c := &cobra.Command{
		Use:   "demo",
		Short: "The whole on this machine, on real measurements",
		Long: `Starts a collector, a measurement server and real probes for some villages of
Klaten. As root every village is a box and a router in network namespaces of their
own, behind a line that is shaped in both directions, with rates drawn anew each
run; else everything is on loopback, and the demo says what is lost by that.

It runs until Ctrl-C, or for the time of --for, and then says whether every
village's figures are what its line carries.`,
		Example: `  pantau demo
  pantau demo --for 10m --json demo.json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case o.Villages < 1 || o.Villages > 40:
				return cli.Usage(errors.New("--villages is between 1 and 40"))
			case o.For < 0:
				return cli.Usage(errors.New("--for is not negative"))
			case out == "-":
				o.Out = os.Stderr // standard output is for the JSON alone
			}
			if f, ok := o.Out.(*os.File); ok {
				o.Terminal = term.IsTerminal(int(f.Fd()))
			}
			if !c.Flags().Changed("seed") {
				o.Seed = rand.Uint64()
			}
			report, err := demo.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if out != "" {
				if err := cli.WriteJSON(out, report); err != nil {
					return err
				}
			}
			if o.For > 0 && !report.OK {
				return fmt.Errorf("the figures do not hold after %s: see the table or --json", o.For.Round(time.Second))
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.Dir, "dir", ".pantau-demo", "folder for everything that is written; made anew")
	c.Flags().IntVar(&o.Villages, "villages", 6, "number of villages")
	c.Flags().BoolVar(&o.NoNetns, "no-netns", false, "loopback instead of shaped lines")
	c.Flags().DurationVar(&o.For, "for", 0, "end after this time, with a verdict; 0: at Ctrl-C")
	c.Flags().Uint64Var(&o.Seed, "seed", 0, "draw the same rates again; without it they are new each run")
	c.Flags().StringVar(&o.Office, "listen", "127.0.0.1:7480", "address of the pages; a taken one gives way to a free port")
	c.Flags().StringVar(&out, "json", "", "write JSON to this file at the end; - is standard output")
	return c
}
