package reference_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/servertest"
	"github.com/pantau-desa/pantau/probe/instrument/speed/reference"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
)

// starvedURL makes the test binary measure this server and print the result.
const starvedURL = "SPEED_TEST_STARVED_URL"

func TestMain(m *testing.M) {
	url := os.Getenv(starvedURL)
	if url == "" {
		os.Exit(m.Run())
	}
	// The first byte says that the parent has set the quota.
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		os.Exit(1)
	}
	i, err := reference.New(reference.Options{Duration: 4 * time.Second, Ledger: ledger.New(ledger.Options{})})
	if err != nil {
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(i.Measure(context.Background(), "", url, measure.KindDownload))
}

// On 1% of a processor the rate stays near that of the path, and the result says
// that the box may have been the limit. (speedtest-go's own figure is up to
// 74% too high at 2.5%.)
func TestStarvedOfCPU(t *testing.T) {
	if testing.Short() {
		t.Skip("a transfer in real time")
	}
	t.Parallel()
	const truth = 20e6
	url := servertest.Relay(t, servertest.Target(t, target.Options{}), truth, truth)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), starvedURL+"="+url)
	cmd.Stderr = os.Stderr
	var out strings.Builder
	cmd.Stdout = &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	if err := os.WriteFile(servertest.Quota(t, 1), fmt.Append(nil, cmd.Process.Pid), 0o644); err != nil {
		t.Skip("no control over the processor: ", err)
	}
	fmt.Fprintln(in)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	var r measure.Result
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatal(err)
	}
	// What arrives while it may not run is read in bursts; on a busy machine much of
	// it never arrives, and there is no figure. What must not be is one above the
	// line's, or one that does not say what it is.
	if r.Outcome != measure.OK {
		t.Logf("no figure: %s (%s)", r.Reason, r.Detail)
		return
	}
	if r.Values[0].Number > 1.2*truth {
		t.Errorf("%.3f Mbit/s on a path of %.0f", r.Values[0].Number/1e6, truth/1e6)
	}
	if !slices.Contains(r.Flags, measure.FlagCPUBound) {
		t.Errorf("flags %v do not say so", r.Flags)
	}
}
