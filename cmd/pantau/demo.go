package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	var out string
	c := &cobra.Command{
		Use:   "demo",
		Short: "The whole on this machine, on real measurements",
		Long: `Starts a collector, a measurement server and real probes for some villages of
Klaten. As root every village is a box and a router in network namespaces of their
own, behind a line that is shaped in both directions, with rates drawn anew each
run; else everything is on loopback, and the demo says what is lost by that.

It runs until Ctrl-C, or for the time of --for, and then says whether every
village's figures are what its line carries: with --for the exit code is 1 if they
are not.

With --story it plays a story by itself, checks it, and ends within 15 minutes: a
line is filled with traffic and noticed, a cable is cut, the offices are told by one
mail that names the villages, the cable is mended, they are told once that it is
over, and what was measured meanwhile is filled in. Rates, line and cable are drawn
anew each run. It needs root. The exit code is 1 if any of it does not hold.`,
		Example: `  pantau demo
  pantau demo --for 10m --json demo.json
  pantau demo --story --json story.json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case o.Villages < 1 || o.Villages > 40:
				return cli.Usage(errors.New("--villages is between 1 and 40"))
			case o.For < 0:
				return cli.Usage(errors.New("--for is not negative"))
			case o.Story && o.For > 0:
				return cli.Usage(errors.New("--story ends by itself: leave --for away"))
			case o.Story && o.NoNetns:
				return cli.Usage(errors.New("--story cuts lines, which --no-netns has none of"))
			case o.Story && o.Villages < demo.LeastForStory:
				return cli.Usage(fmt.Errorf("--story needs --villages %d or more, so that not all are cut off", demo.LeastForStory))
			}
			if out != "" && out != "-" { // rather now than after the run
				if _, err := os.Stat(filepath.Dir(out)); err != nil {
					return cli.Usage(fmt.Errorf("--json: %w", err))
				}
			}
			if !c.Flags().Changed("seed") {
				o.Seed = rand.Uint64()
			}
			ctx, stop := untilLeft(c.Context())
			defer stop()
			file := os.Stdout
			if out == "-" {
				file = os.Stderr // standard output is for the JSON alone
			}
			o.Out = &audience{file: file, left: stop}
			if fd := int(file.Fd()); term.IsTerminal(fd) && os.Getenv("TERM") != "dumb" {
				o.Colour = os.Getenv("NO_COLOR") == ""
				o.Size = func() (columns, rows int) {
					if columns, rows, err := term.GetSize(fd); err == nil && columns > 0 && rows > 0 {
						return columns, rows
					}
					return 80, 24
				}
			}
			report, err := demo.Run(ctx, o)
			if out != "" && len(report.Villages) > 0 {
				err = errors.Join(err, cli.WriteJSON(out, report))
			}
			switch {
			case err != nil:
				return err
			case (o.For > 0 || o.Story) && !report.OK:
				return cli.ErrSilent // the demo has said what does not hold
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.Dir, "dir", ".pantau-demo", "folder for everything that is written; made anew")
	c.Flags().IntVar(&o.Villages, "villages", 6, "number of villages")
	c.Flags().BoolVar(&o.NoNetns, "no-netns", false, "loopback instead of shaped lines")
	c.Flags().DurationVar(&o.For, "for", 0, "end after this time, with a verdict; 0: at Ctrl-C")
	c.Flags().BoolVar(&o.Story, "story", false, "play the story, check it, and end")
	c.Flags().Uint64Var(&o.Seed, "seed", 0, "draw the same rates and the same story again; without it they are new each run")
	c.Flags().StringVar(&o.Office, "listen", "127.0.0.1:7480", "address of the pages; a taken one gives way to a free port")
	c.Flags().StringVar(&out, "json", "", "write JSON to this file at the end; - is standard output")
	return c
}

// untilLeft is a context that ends also when the terminal is closed. As nothing
// must be left behind, no signal that can be caught ends the demo at once.
func untilLeft(ctx context.Context) (context.Context, context.CancelFunc) {
	signal.Ignore(syscall.SIGPIPE) // writing fails instead: see audience
	if signal.Ignored(syscall.SIGHUP) {
		return context.WithCancel(ctx) // nohup
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}

// audience is who reads the demo's words. When it leaves, as in `pantau demo | head`,
// the demo ends.
type audience struct {
	file *os.File
	left func()
}

func (a *audience) Write(p []byte) (int, error) {
	n, err := a.file.Write(p)
	if err != nil {
		a.left()
	}
	return n, err
}
