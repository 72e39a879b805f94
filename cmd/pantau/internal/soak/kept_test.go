package soak

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/schedule"
	"github.com/pantau-desa/pantau/probe/wire"
)

// kept is what the journal has of the probe.
type kept struct {
	batches []wire.Batch // by number
	digests []wire.Digest
	results []measure.Result
}

// readJournal reads the journal of a collector that does not run.
func readJournal(t *testing.T) kept {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: folder("collector", "journal"), ReadOnly: true})
	must(t, err)
	defer j.Close()
	codec, err := wire.NewCodec()
	must(t, err)
	var k kept
	r := j.NewReader(journal.Position{})
	defer r.Close()
	for {
		rec, _, err := r.TryNext()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		if rec.Type != journal.Batch {
			continue
		}
		b, err := codec.DecodeBatch(rec.Body)
		must(t, err)
		i, found := slices.BinarySearchFunc(k.batches, b.Seq, func(x wire.Batch, seq uint64) int { return int(x.Seq) - int(seq) })
		if found {
			t.Errorf("batch %d is in the journal twice", b.Seq)
		}
		k.batches = slices.Insert(k.batches, i, b)
		k.digests = slices.Insert(k.digests, i, wire.DigestOf(rec.Body))
	}
	for _, b := range k.batches {
		k.results = append(k.results, b.Results...)
	}
	return k
}

// unbroken checks that all that the probe sealed is there, as one chain.
func (k kept) unbroken(t *testing.T) {
	t.Helper()
	for i, b := range k.batches {
		if b.Seq != uint64(i+1) || b.Epoch != k.batches[0].Epoch || b.SpoolDropped != 0 || i > 0 && b.Previous != k.digests[i-1] {
			t.Errorf("batch %d follows %d others: epoch %x, %d dropped, after %x", b.Seq, i, b.Epoch, b.SpoolDropped, b.Previous)
		}
	}
	var head struct {
		Seq uint64 `json:"last_sealed_seq"`
	}
	raw, err := os.ReadFile(folder("state", "spool", "head.json"))
	must(t, err)
	must(t, json.Unmarshal(raw, &head))
	if head.Seq != uint64(len(k.batches)) {
		t.Errorf("the probe has sealed %d batches, the journal has %d", head.Seq, len(k.batches))
	}
	for _, left := range []string{"batch-*", "quarantine/*"} {
		if files, err := filepath.Glob(folder("state", "spool", left)); err != nil || len(files) > 0 {
			t.Errorf("left in the spool: %v (%v)", files, err)
		}
	}
}

// counted checks that the probe's own count of its results is what is there: none
// was lost after it was measured, none is there twice.
func (k kept) counted(t *testing.T) {
	t.Helper()
	if len(k.batches) == 0 {
		t.Fatal("the journal has no batch")
	}
	there := map[wire.Counter]uint64{}
	for _, r := range k.results {
		there[wire.Counter{Kind: r.Kind, Outcome: r.Outcome, Reason: r.Reason}]++
	}
	last := k.batches[len(k.batches)-1]
	for _, c := range last.Counters {
		n := c.Count
		c.Count = 0
		if there[c] != n {
			t.Errorf("%s %s %s: the probe has counted %d, the journal has %d", c.Kind, c.Outcome, c.Reason, n, there[c])
		}
		delete(there, c)
	}
	if len(there) > 0 {
		t.Errorf("in the journal and not counted: %v", there)
	}
	once := map[string]bool{}
	for _, r := range k.results {
		key := fmt.Sprintf("%s of %s at %s", r.Kind, r.Target, r.MeasuredAt.Format(time.RFC3339Nano))
		if once[key] {
			t.Errorf("twice: %s", key)
		}
		once[key] = true
	}
}

// tally is how many results there are, by kind and what became of them.
func (k kept) tally() string {
	n := map[string]int{}
	for _, r := range k.results {
		n[strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Kind, r.Outcome, r.Reason))]++
	}
	var lines []string
	for what, count := range n {
		lines = append(lines, fmt.Sprintf("%6d %s", count, what))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[7:], b[7:]) })
	return strings.Join(lines, "\n")
}

// slots checks that each slot has a result of every light instrument, but those
// that a kill may have cost, and returns how many there are and are missing.
func (k kept) slots(t *testing.T, interval time.Duration, lives []life) (whole, missing int) {
	t.Helper()
	have := map[measure.Kind]map[int64]bool{}
	light := []measure.Kind{measure.KindReach, measure.KindLatency, measure.KindUsage}
	for _, kind := range light {
		have[kind] = map[int64]bool{}
	}
	for _, r := range k.results {
		if slots, ok := have[r.Kind]; ok {
			slots[r.MeasuredAt.UnixNano()] = true
		}
	}
	begin, end := lives[0].born, lives[len(lives)-1].dead
	slot := schedule.Slot(begin, interval, schedule.Phase(boxID, interval)).Add(interval)
	for ; slot.Before(end); slot = slot.Add(interval) {
		for _, kind := range light {
			whole++
			if have[kind][slot.UnixNano()] {
				continue
			}
			missing++
			if !excused(slot, interval, lives) {
				t.Errorf("%s has no result for the slot at %s, and no kill is to blame", kind, slot.Format("15:04:05"))
			}
		}
	}
	if most := len(light) * len(lives); missing > most { // the last life's end included
		t.Errorf("%d results of slots are missing, %d kills may cost %d", missing, len(lives)-1, most)
	}
	return whole, missing
}
