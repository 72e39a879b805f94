package push

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/spool"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// Store is where sealed batches wait.
type Store interface {
	Epoch() wire.Epoch
	Waiting() []uint64 // newest first
	Load(seq uint64) (spool.Sealed, error)
	Acknowledge(seq uint64) error
	Quarantine(seq uint64) error
}

// Options of an Uploader.
type Options struct {
	Probe     measure.ProbeID
	Key       ed25519.PrivateKey
	Collector string // base URL, https
	Client    *http.Client
	Store     Store
	Time      *Timekeeper
	// ConfigVersion is what the probe runs; Config takes a newer one.
	ConfigVersion func() uint64
	Config        func(c *wirepb.ProbeConfig, version uint64)
	// OnSuccess is called after each acknowledgement; it must not block.
	OnSuccess  func()
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Uploader pushes what waits in the store. Make it with New.
type Uploader struct {
	opt      Options
	wake     chan struct{}
	answers  *prometheus.CounterVec
	failures int
}

// New makes an uploader.
func New(o Options) *Uploader {
	u := &Uploader{opt: o, wake: make(chan struct{}, 1),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pantau_probe_push_answers_total",
			Help: "Attempts to push a batch, by what was decided on the answer."}, []string{"decision"})}
	for d := Acknowledged; d <= Fatal; d++ {
		u.answers.WithLabelValues(d.String())
	}
	o.Registerer.MustRegister(u.answers)
	return u
}

// Wake makes the uploader look at the store now, also if it was waiting after a
// failure.
func (u *Uploader) Wake() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// idleLook is how often the store is looked at unasked.
const idleLook = 5 * time.Minute

// minPause keeps wakes from turning into a storm while the collector fails.
const minPause = time.Second

// Run pushes until ctx ends.
func (u *Uploader) Run(ctx context.Context) error {
	for {
		pause := u.drain(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if pause > 0 && !sleep(ctx, min(pause, minPause)) {
			return nil
		}
		if pause == 0 {
			pause = idleLook
		}
		select {
		case <-ctx.Done():
			return nil
		case <-u.wake:
		case <-time.After(pause):
		}
	}
}

// Flush pushes what waits until nothing does, a push fails, or ctx ends. It must
// not run beside Run.
func (u *Uploader) Flush(ctx context.Context) { u.drain(ctx) }

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// drain pushes everything that waits, newest first. It returns how long to wait
// before the next try; 0 when nothing is left.
func (u *Uploader) drain(ctx context.Context) time.Duration {
	for {
		seqs := u.opt.Store.Waiting()
		if len(seqs) == 0 {
			return 0
		}
		pause, err := u.push(ctx, seqs[0])
		if err == nil {
			u.failures = 0
			continue
		}
		if ctx.Err() != nil {
			return 0
		}
		u.failures++
		if pause == 0 {
			pause = backoff(u.failures, rand.Float64())
		}
		u.opt.Logger.Warn("push failed, results are kept", "waiting", len(seqs), "again_in", pause.Round(time.Second), "err", err)
		return pause
	}
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

// push sends one batch and carries out the decision. After an error the batch is
// still in the store; pause is what the collector asked for, or 0.
func (u *Uploader) push(ctx context.Context, seq uint64) (pause time.Duration, err error) {
	batch, err := u.opt.Store.Load(seq)
	if err != nil {
		// An unreadable file must not block what follows.
		return 0, errors.Join(fmt.Errorf("batch %d set aside: %w", seq, err), u.opt.Store.Quarantine(seq))
	}
	decision, answer, wait, err := u.send(ctx, batch)
	if decision == Acknowledged && !wire.Covers(answer.GetAck(), u.opt.Store.Epoch(), seq, batch.Digest) {
		decision, err = Retry, errors.New("the collector acknowledged another batch than the one sent")
	}
	u.answers.WithLabelValues(decision.String()).Inc()
	switch decision {
	case Acknowledged:
		if err := u.opt.Store.Acknowledge(seq); err != nil {
			return 0, err
		}
		if c := answer.GetConfig(); c != nil {
			u.opt.Config(c, answer.GetConfigVersion())
		}
		u.opt.OnSuccess()
		return 0, nil
	case Reject:
		u.opt.Logger.Error("the collector will never take this batch: set aside in quarantine", "batch", seq, "err", err)
		return 0, u.opt.Store.Quarantine(seq)
	case Fatal:
		return fatalPause, err
	}
	return wait, err
}

func (u *Uploader) send(ctx context.Context, b spool.Sealed) (Decision, *wirepb.BatchResponse, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.opt.Collector+wire.PathBatches, bytes.NewReader(b.Body))
	if err != nil {
		return Retry, nil, 0, err
	}
	sent := u.opt.Time.Reading()
	req.Header.Set("Content-Type", wire.ContentType)
	req.Header.Set(wire.HeaderProbe, string(u.opt.Probe))
	req.Header.Set(wire.HeaderSignature, base64.StdEncoding.EncodeToString(wire.Sign(u.opt.Key, b.Body)))
	req.Header.Set(wire.HeaderSent, wire.Sent{Boot: sent.Boot, Mono: sent.Mono, Wall: sent.Wall}.String())
	req.Header.Set(wire.HeaderConfig, strconv.FormatUint(u.opt.ConfigVersion(), 10))
	resp, err := u.opt.Client.Do(req)
	if err != nil {
		return Retry, nil, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Retry, nil, 0, err
	}
	d := Decide(resp.StatusCode)
	if d != Acknowledged {
		return d, nil, RetryAfter(resp.Header), fmt.Errorf("collector: %s: %s", resp.Status, strings.TrimSpace(string(body[:min(len(body), 300)])))
	}
	var answer wirepb.BatchResponse
	if err := proto.Unmarshal(body, &answer); err != nil {
		return Retry, nil, 0, fmt.Errorf("collector's answer: %w", err)
	}
	u.opt.Time.Learn(time.Unix(0, answer.CollectorTimeNs), sent.Mono)
	return d, &answer, 0, nil
}
