package reference

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// A library that does not end is waited for, then left; no test is made beside
// it, until it has ended.
func TestLibraryThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, server.Latency)
		}
		io.Copy(io.Discard, r.Body)
	}))
	defer s.Close()
	i, err := New(Options{Ledger: ledger.New(ledger.Options{}), Duration: 200 * time.Millisecond, StallTime: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	release, ended := make(chan struct{}), make(chan struct{})
	i.library = func(*transfer) { <-release; close(ended) }

	begin := time.Now()
	r := i.Measure(t.Context(), "", s.URL, measure.KindUpload)
	if took := time.Since(begin); r.Outcome != measure.Failed || r.Reason != measure.ReasonInternal || took < grace || took > grace+2*time.Second {
		t.Errorf("%s, %s (%s) after %v", r.Outcome, r.Reason, r.Detail, took)
	}
	begin = time.Now()
	r = i.Measure(t.Context(), "", s.URL, measure.KindUpload)
	if took := time.Since(begin); r.Reason != measure.ReasonInternal || r.BytesSent != 0 || took > time.Second {
		t.Errorf("beside it: %s, %s (%s) after %v, %d bytes", r.Outcome, r.Reason, r.Detail, took, r.BytesSent)
	}

	close(release)
	<-ended
	<-i.stuck
	i.library = runLibrary
	if r = i.Measure(t.Context(), "", s.URL, measure.KindUpload); r.Outcome != measure.OK {
		t.Errorf("after it: %s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
}

// A library that ends by its own clock was not watched: the box was too busy.
func TestLibraryThatEndsByItself(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, server.Latency)
		}
	}))
	defer s.Close()
	i, err := New(Options{Ledger: ledger.New(ledger.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	i.library = func(*transfer) {}
	if r := i.Measure(t.Context(), "", s.URL, measure.KindUpload); r.Outcome != measure.Failed || r.Reason != measure.ReasonCPUStarved {
		t.Errorf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
}
