package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pantau-desa/pantau/cmd/internal/cli"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/configs/settings"
)

func checkCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use:     "check --config FILE",
		Short:   "Everything wrong with settings, an inventory or rules, at once",
		Example: "  pantau check --config /etc/pantau/pantau.yaml\n  pantau check inventory configs/klaten\n  pantau check rules /etc/pantau/rules",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if config == "" {
				return cli.Usage(errors.New("say what to check: --config FILE, or: pantau check inventory DIR, or: pantau check rules DIR"))
			}
			s, err := loadServe(config)
			if err != nil {
				return cli.Usage(err)
			}
			fmt.Fprintln(c.OutOrStdout(), config+": good")
			err = checkInventory(c, s.Inventory)
			if s.Rules.Dir != "" {
				err = errors.Join(err, checkRules(c, s.Rules.Dir))
			}
			return err
		},
	}
	c.Flags().StringVar(&config, "config", "", "settings file of `pantau serve`")
	c.AddCommand(&cobra.Command{
		Use:     "inventory DIR",
		Short:   "Everything wrong with an inventory: file, row, what, remedy",
		Example: "  pantau check inventory configs/klaten",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE:    func(c *cobra.Command, args []string) error { return checkInventory(c, args[0]) },
	}, &cobra.Command{
		Use:     "rules DIR",
		Short:   "Everything wrong with a directory of rule files: file, line, what",
		Example: "  pantau check rules /etc/pantau/rules",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE:    func(c *cobra.Command, args []string) error { return checkRules(c, args[0]) },
	})
	return c
}

func checkInventory(c *cobra.Command, dir string) error {
	inv, err := inventory.Load(dir)
	var wrong inventory.Problems
	if errors.As(err, &wrong) {
		for _, p := range wrong {
			fmt.Fprintln(c.OutOrStdout(), p)
		}
		fmt.Fprintf(c.ErrOrStderr(), "%s: %d problems\n", dir, len(wrong))
		return cli.ErrSilent
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: good: %d districts, %d villages\n", dir, len(inv.Districts()), len(inv.Villages()))
	return nil
}

// problems makes a settings error's lines readable behind the program's name.
func problems(err error) error {
	var ps settings.Problems
	if errors.As(err, &ps) && len(ps) > 1 {
		return fmt.Errorf("%d problems with the settings:\n%w", len(ps), ps)
	}
	return err
}
