// Command pantau-lab is for those who build or doubt Pantau Desa's figures: it
// makes lines of known rate on this machine, and holds instruments against them.
// It is not installed anywhere. It needs root.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/probe/instrument/speed/truth"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
)

func main() {
	root := &cobra.Command{
		Use:   "pantau-lab",
		Short: "Makes lines of known rate, and holds speed instruments against them",
		Example: `  pantau-lab truth --out /tmp/truth
  pantau-lab line --down 20 --up 5 --rtt 60ms --loss 0.005 -- curl -o /dev/null http://198.18.2.2:7442/speedtest/random4000x4000.jpg`,
	}
	root.AddCommand(truthCommand(), lineCommand(), serveCommand(), toolCommand())
	os.Exit(cli.Main(root))
}

// steady has the emulator's threads never wait for this program's other work.
func steady() {
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	debug.SetGCPercent(400)
}

func truthCommand() *cobra.Command {
	o := truth.Options{Log: os.Stdout}
	var tools []string
	var cells string
	c := &cobra.Command{
		Use:     "truth --out DIR",
		Short:   "Hold the engine, iperf3 and speedtest-go against every cell; what is there already is kept",
		Example: "  pantau-lab truth --out /tmp/truth --tools pantau --cells '^(5|20)-'",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			for _, t := range tools {
				if !slices.Contains(truth.Tools(), truth.Tool(t)) {
					return cli.Usage(fmt.Errorf("--tools: %q is not one of %v", t, truth.Tools()))
				}
				o.Tools = append(o.Tools, truth.Tool(t))
			}
			if cells != "" {
				if o.Cells, err = regexp.Compile(cells); err != nil {
					return cli.Usage(err)
				}
			}
			if slices.Contains(o.Tools, truth.Iperf3) {
				if _, err := exec.LookPath("iperf3"); err != nil {
					return fmt.Errorf("%w: apt-get install iperf3, or leave it out with --tools", err)
				}
			}
			if o.Program, err = os.Executable(); err != nil {
				return err
			}
			steady()
			return truth.Run(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.Dir, "out", "", "directory of runs.jsonl, truth.json and truth.md")
	c.Flags().StringSliceVar(&tools, "tools", []string{string(truth.Pantau), string(truth.Iperf3), string(truth.SpeedtestGo)}, "which, in which order")
	c.Flags().StringVar(&cells, "cells", "", "only the cells whose name (down-up-rtt-loss-shape) this regular expression finds")
	c.Flags().IntVar(&o.Attempts, "attempts", 3, "how often an unsound cell is measured")
	c.Flags().BoolVar(&o.Full, "full", false, "the engine does not end early")
	c.Flags().BoolVar(&o.Traces, "traces", false, "the engine writes into DIR how its figures came about")
	_ = c.MarkFlagRequired("out")
	return c
}

func lineCommand() *cobra.Command {
	var down, up, loss float64
	var rtt time.Duration
	var shape string
	c := &cobra.Command{
		Use:   "line [-- COMMAND ...]",
		Short: "Make one line with a measurement server behind it, and run a command at its near end",
		Long: `Make one line with a measurement server behind it, and run a command at its near end.
Without a command it stands until interrupted; "ip netns exec" enters it.`,
		Example: `  pantau-lab line --down 38.16 --up 19.03 --rtt 20ms -- pantau-probe measure speed --target http://198.18.2.2:7442`,
		RunE: func(c *cobra.Command, args []string) error {
			cell := truth.Cell{Down: down * 1e6, Up: up * 1e6, RTT: rtt, Loss: loss, Shape: truth.Shape(shape)}
			steady()
			program, err := os.Executable()
			if err != nil {
				return err
			}
			l, err := truth.Build(cell)
			if err != nil {
				return err
			}
			defer l.Close()
			if err := l.Serve(c.Context(), program); err != nil {
				return err
			}
			if len(args) == 0 {
				fmt.Fprintf(c.OutOrStdout(), "near end: ip netns exec %s ...\nserver: http://%s:7442\n", l.Client.Namespace(), l.Address)
				<-c.Context().Done()
				return nil
			}
			cmd := l.Client.Command(c.Context(), args[0], args[1:]...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
			err = cmd.Run()
			if sound := l.Sound(); sound != nil {
				fmt.Fprintln(os.Stderr, "pantau-lab: this was not the line that was asked for:", sound)
			}
			if errors.As(err, new(*exec.ExitError)) {
				return cli.ErrSilent // it has said why
			}
			return err
		},
	}
	c.Flags().Float64Var(&down, "down", 20, "Mbit/s of Ethernet frames towards the near end")
	c.Flags().Float64Var(&up, "up", 10, "Mbit/s from the near end")
	c.Flags().DurationVar(&rtt, "rtt", 20*time.Millisecond, "round trip without queue")
	c.Flags().Float64Var(&loss, "loss", 0, "share of frames lost, each way")
	c.Flags().StringVar(&shape, "shape", string(truth.Plain), "plain, burst, policer or proxy")
	return c
}

func serveCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use: "serve", Short: "The measurement server of a cell", Hidden: true,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			t, err := target.New(target.Options{Addr: listen})
			if err != nil {
				return err
			}
			return t.Run(c.Context())
		},
	}
	c.Flags().StringVar(&listen, "listen", target.DefaultAddr, "address")
	return c
}

func toolCommand() *cobra.Command {
	var url, direction, trace string
	var full bool
	c := &cobra.Command{
		Use: "tool NAME", Short: "One tool, once, at the near end of a cell", Hidden: true,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var a truth.Answer
			var err error
			switch kind := measure.Kind(direction); truth.Tool(args[0]) {
			case truth.Pantau:
				a, err = truth.RunPantau(c.Context(), url, kind, full, trace)
			case truth.SpeedtestGo:
				a, err = truth.RunSpeedtestGo(c.Context(), url, kind)
			default:
				err = fmt.Errorf("no tool of this program: %s", strings.Join(args, " "))
			}
			if err != nil {
				a.Detail = err.Error()
			}
			return errors.Join(json.NewEncoder(c.OutOrStdout()).Encode(a), context.Cause(c.Context()))
		},
	}
	c.Flags().StringVar(&url, "target", "", "measurement server")
	c.Flags().StringVar(&direction, "direction", string(measure.KindDownload), "download or upload")
	c.Flags().BoolVar(&full, "full", false, "no early end")
	c.Flags().StringVar(&trace, "trace", "", "file that takes how the figure came about, as JSON")
	return c
}
