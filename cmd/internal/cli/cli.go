// Package cli is what both programs' commands share: exit codes, logging, the end
// of a program by a signal, and output for machines.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	ExitGood  = 0 // done, and good
	ExitFail  = 1 // failed, or a check did not hold
	ExitUsage = 2 // wrong usage or settings
)

// Usage marks an error as the user's: wrong arguments or settings.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// ErrSilent fails a command that has already said why.
var ErrSilent = errors.New("failed")

// Main runs a command tree until it ends or the process is told to end, and
// returns the exit code.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Usage(fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
	})
	reached := false
	markReached(root, &reached)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitGood
	}
	if !errors.Is(err, ErrSilent) {
		fmt.Fprintln(os.Stderr, root.Name()+": "+err.Error())
	}
	var usage usageError
	if errors.As(err, &usage) || !reached {
		return ExitUsage
	}
	return ExitFail
}

// markReached notes when a command begins its work: whatever fails before is the
// way it was called (an unknown command, a missing flag).
func markReached(c *cobra.Command, reached *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*reached = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		markReached(sub, reached)
	}
}

// Args wraps a cobra argument check so that its errors are usage errors.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return Usage(fmt.Errorf("%s: %w; see %s --help", c.CommandPath(), err, c.CommandPath()))
		}
		return nil
	}
}

// Logger writes lines for people and machines alike to w.
func Logger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// WriteJSON writes v as one indented JSON object to a file; "-" is standard
// output.
func WriteJSON(file string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if file == "-" {
		_, err = os.Stdout.Write(raw)
		return err
	}
	return os.WriteFile(file, raw, 0o644)
}

// Level reads a log level by its name.
func Level(name string) (slog.Level, bool) {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(l.String(), name) {
			return l, true
		}
	}
	return slog.LevelInfo, false
}
