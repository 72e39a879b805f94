package demo

import (
	"os"
	"testing"
)

// This test binary is also a program or two that tests start.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(standIn) != "":
		beGrafana()
	case os.Getenv(quickDemo) != "":
		beDemo(os.Getenv(quickDemo))
	}
	os.Exit(m.Run())
}
