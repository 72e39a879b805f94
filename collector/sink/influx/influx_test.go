package influx_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/pantau-desa/pantau/collector/sink/influx"
	"github.com/pantau-desa/pantau/collector/sink/influx/influxtest"
	"github.com/pantau-desa/pantau/collector/sink/sinktest"
)

const org = "pantau"

func open(t testing.TB, o influx.Options) *influx.Sink {
	t.Helper()
	s, err := influx.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// read returns all figures that a database holds, as the series they were made of.
// Facts are labels again.
func read(t testing.TB, server *influxtest.Server, db string) sinktest.Content {
	t.Helper()
	out := sinktest.Content{}
	for _, s := range server.InfluxQL(db, "SELECT * FROM /.*/ GROUP BY *") {
		for _, row := range s.Values {
			at := int64(row[0].(float64))
			facts := map[string]string{}
			for i, column := range s.Columns[1:] {
				if s.Name != "site_info" || column == s.Name || row[i+1] == nil {
					continue
				}
				switch v := row[i+1].(type) {
				case string:
					facts[column] = v
				case float64:
					facts[column] = strconv.FormatFloat(v, 'f', -1, 64)
				}
			}
			for i, column := range s.Columns[1:] {
				v, isNumber := row[i+1].(float64)
				if _, isFact := facts[column]; isFact || !isNumber {
					continue
				}
				key := seriesOf(column, s.Tags, facts)
				out[key] = append(out[key], sinktest.Point{T: at, V: v})
			}
		}
	}
	for _, points := range out { // those of facts may come in parts
		sortPoints(points)
	}
	return out
}

func sortPoints(points []sinktest.Point) {
	slices.SortFunc(points, func(a, b sinktest.Point) int { return cmp.Compare(a.T, b.T) })
}

// seriesOf is the series that a field holds, in its text form.
func seriesOf(field string, tags, facts map[string]string) string {
	b := labels.NewBuilder(labels.EmptyLabels())
	name := field
	for _, stat := range []string{"min", "median", "p95"} {
		if head, ok := strings.CutSuffix(field, "_"+stat); ok {
			name = head
			b.Set("stat", stat)
		}
	}
	b.Set(model.MetricNameLabel, "pantau_"+name)
	for _, more := range []map[string]string{tags, facts} {
		for k, v := range more {
			b.Set(k, v)
		}
	}
	return b.Labels().String()
}

func TestConformance(t *testing.T) {
	t.Parallel()
	server := influxtest.Start(t, influxtest.Options{})
	sinktest.Run(t, func(t testing.TB, dir string, now func() time.Time) sinktest.Store {
		sum := sha256.Sum256([]byte(dir))
		db := hex.EncodeToString(sum[:8])
		server.Create(db)
		return sinktest.Store{
			Sink:       open(t, influx.Options{URL: server.URL(), Org: org, Bucket: db, Now: now}),
			Read:       func(t testing.TB) sinktest.Content { return read(t, server, db) },
			Overwrites: true,
			Endless:    true,
		}
	})
}

// diff compares what the journal says with what a store holds; "" if it is the
// same.
func diff(want, got sinktest.Content) string {
	d := gocmp.Diff(want, got)
	if d == "" {
		return ""
	}
	return fmt.Sprintf("(journal, InfluxDB): %.3000s", d)
}
