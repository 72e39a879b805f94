// Package ticket asks the collector before a heavy test, so that two probes of one
// line never test at once, and a measurement server never serves more tests than it
// can.
//
// It guarantees that a test that was told to wait does not begin, and that one which
// nobody could be asked about is marked ([measure.FlagUnticketed]): a collector that
// cannot be reached, or knows no tickets yet, keeps no line from being measured where
// the measurement server is open to everyone. Asking and handing back cost 5.8 kB of
// layer 2 with a TLS handshake and 1.4 kB without (measured); the client's connections
// are the ledger's.
package ticket

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/instrument/speed"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/push"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// Options of an Office. All are required.
type Options struct {
	Probe     measure.ProbeID
	Key       ed25519.PrivateKey
	Collector string // base URL, https
	Client    *http.Client
	Logger    *slog.Logger
}

// Office is where tests get their tickets. It is safe for concurrent use.
type Office struct{ opt Options }

// New makes an office.
func New(o Options) *Office { return &Office{o} }

// Refusal is the error of a test that has to wait.
type Refusal struct {
	// Reason is what a result is skipped for if nobody waits: busy_line, while another
	// probe of the site tests, or saturated.
	Reason measure.Reason
	After  time.Duration // when to ask again
	Detail string        // in the collector's words
}

func (r *Refusal) Error() string { return r.Detail }

const (
	askTime    = 15 * time.Second // for an answer; without one the test goes on
	finishTime = 3 * time.Second  // for the news that it is over; else the ticket lapses
	leastWait  = time.Second
	maxAnswer  = 4 << 10 // bytes
)

// Test runs test by a ticket for target: its context carries the token to speed's
// instruments. The only error is a [Refusal]; test has not run then. Without anyone to
// ask it runs all the same, and good results are marked.
func (o *Office) Test(ctx context.Context, target measure.TargetID, test func(context.Context) []measure.Result) ([]measure.Result, error) {
	token, err := o.ask(ctx, target)
	if no, ok := errors.AsType[*Refusal](err); ok {
		return nil, no
	}
	if err != nil {
		o.opt.Logger.Warn("no ticket for a speed test: it is tried without", "target", target, "err", err)
		results := test(ctx)
		for i := range results {
			if results[i].Outcome == measure.OK {
				results[i].Flags = append(results[i].Flags, measure.FlagUnticketed)
			}
		}
		return results, nil
	}
	defer o.finish(ctx, token)
	return test(speed.WithTicket(ctx, token)), nil
}

// ask returns a token, a [Refusal], or why nobody gives either.
func (o *Office) ask(ctx context.Context, target measure.TargetID) (token string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	status, header, body, err := o.post(ctx, &wirepb.TicketRequest{Target: string(target)})
	if err != nil {
		return "", err
	}
	words := strings.TrimSpace(string(body[:min(len(body), measure.MaxDetail)]))
	switch status {
	case http.StatusOK:
		var answer wirepb.TicketResponse
		if err := proto.Unmarshal(body, &answer); err != nil {
			return "", fmt.Errorf("the collector's answer: %w", err)
		}
		if t, err := wire.ReadTicket(answer.Token); err != nil || t.Target != target || t.Probe != o.opt.Probe {
			return "", fmt.Errorf("the collector gave a ticket for probe %q and server %q (%v)", t.Probe, t.Target, err)
		}
		return answer.Token, nil
	case http.StatusTooManyRequests:
		return "", &Refusal{measure.ReasonBusyLine, max(push.RetryAfter(header), leastWait), words}
	case http.StatusServiceUnavailable:
		return "", &Refusal{measure.ReasonSaturated, max(push.RetryAfter(header), leastWait), words}
	}
	return "", fmt.Errorf("collector: %d: %s", status, words)
}

// finish hands a ticket back.
func (o *Office) finish(ctx context.Context, token string) {
	ticket, err := wire.ReadTicket(token)
	if err != nil {
		return // it was read before
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	if status, _, _, err := o.post(ctx, &wirepb.TicketRequest{Finished: ticket.ID[:]}); err != nil || status != http.StatusOK {
		o.opt.Logger.Debug("a ticket was not handed back: it lapses", "status", status, "err", err)
	}
}

func (o *Office) post(ctx context.Context, m *wirepb.TicketRequest) (status int, header http.Header, body []byte, err error) {
	wish, err := proto.Marshal(m)
	if err != nil {
		return 0, nil, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.opt.Collector+wire.PathTickets, bytes.NewReader(wish))
	if err != nil {
		return 0, nil, nil, err
	}
	r.Header.Set("Content-Type", wire.ContentType)
	r.Header.Set(wire.HeaderProbe, string(o.opt.Probe))
	r.Header.Set(wire.HeaderSignature, base64.StdEncoding.EncodeToString(wire.SignTicketRequest(o.opt.Key, wish)))
	resp, err := o.opt.Client.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, resp.Header, body, err
}
