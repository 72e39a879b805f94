// Package influx is a sink for InfluxDB 2 and for InfluxDB 1.8, which takes the
// same writes. README.md beside this file says what it looks like in there.
//
// It guarantees that what the journal holds is in the bucket once, however often
// the server, the network or the collector fail meanwhile and however often it is
// written again: a point is named by measurement, tags and time, and carries one
// result's figures. Nothing is queued in memory: what the server does not take
// waits in the journal. A point that the server will never take is found among
// the others of its request, counted and passed over; nothing else is ever given
// up. What could be a mistake in the settings (a token, a bucket, an address where
// something else answers) is never taken for a refusal of points.
//
// It refuses what a line of the protocol cannot carry: figures that are not
// numbers, and tags with a backslash or a control character in them.
package influx

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	influxdb "github.com/influxdata/influxdb-client-go/v2"
	"github.com/influxdata/influxdb-client-go/v2/api"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/sink"
	"github.com/pantau-desa/pantau/configs/secret"
)

const (
	// requestPoints bounds one request: about a megabyte before it is compressed,
	// and what InfluxDB's own documents advise.
	requestPoints = 5000
	// DefaultTimeout bounds one request, the server's work included.
	DefaultTimeout = 30 * time.Second
	// maxSkew lets a record through whose receipt this clock has not reached.
	maxSkew = time.Minute
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 10
	// remind is the least time between two lines about refused points.
	remind = time.Minute
)

// Options are what a Sink needs.
type Options struct {
	// URL of the server, with a path if it is behind a proxy that has one.
	URL string
	// Org is the organisation. InfluxDB 1.8 has none and takes any.
	Org string
	// Bucket takes the points; of InfluxDB 1.8 it is "database" or
	// "database/retention policy".
	Bucket string
	// Token that may write to the bucket; of InfluxDB 1.8 it is "user:password".
	// Empty: the server asks for none.
	Token  secret.Text
	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
	// Timeout of one request; 0 is DefaultTimeout.
	Timeout time.Duration
}

// Check says what is wrong with a server's settings, by the name of the setting.
func (o Options) Check() map[string]string {
	wrong := map[string]string{}
	u, err := url.Parse(o.URL)
	switch {
	case o.URL == "":
		wrong["url"] = "is empty: name the server, such as http://127.0.0.1:8086"
	case err == nil && u.User != nil:
		wrong["url"] = "holds a user or a password: those belong into token_file, for InfluxDB 1.8 as user:password"
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		wrong["url"] = "is no address of a server, such as https://influx.example:8086"
	case u.RawQuery != "" || u.Fragment != "":
		wrong["url"] = "has something behind ? or #: the address of the server is enough"
	case strings.Contains(u.Path, "/api/v2") || strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/write"):
		wrong["url"] = "names a path of the server's API: the address of the server is enough"
	}
	for key, v := range map[string]string{"org": o.Org, "bucket": o.Bucket} {
		if strings.TrimSpace(v) != v {
			wrong[key] = "has spaces around it"
		}
	}
	if o.Org == "" {
		wrong["org"] = "is empty: name the organisation; InfluxDB 1.8 has none and takes any word"
	}
	if o.Bucket == "" {
		wrong["bucket"] = "is empty: name the bucket; of InfluxDB 1.8, the database"
	}
	if !secret.Plain(string(o.Token)) {
		wrong["token"] = "holds spaces or characters that cannot be seen"
	}
	return wrong
}

// Destination names where the points go, for a cursor that belongs to it: another
// server, organisation or bucket does not have what this one has.
func (o Options) Destination() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{strings.TrimSuffix(o.URL, "/"), o.Org, o.Bucket}, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// Sink writes to one bucket. It is safe for concurrent use; one write runs at a
// time.
type Sink struct {
	opt Options
	web *http.Transport
	api api.WriteAPIBlocking

	writing sync.Mutex
	closed  bool
	told    time.Time // when refused points were last told of
	untold  int       // samples refused since
}

var _ sink.Sink = (*Sink)(nil)

// New prepares a sink. The server need not be there.
func New(o Options) (*Sink, error) {
	for _, key := range []string{"url", "org", "bucket", "token"} {
		if what, wrong := o.Check()[key]; wrong {
			return nil, fmt.Errorf("influx: %s %s", key, what)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	const connect = 5 * time.Second
	web := &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: connect}).DialContext,
		TLSHandshakeTimeout: connect, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true}
	client := &http.Client{Timeout: o.Timeout, Transport: strict{web},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	// The library's retries, buffers and batches are for its other interface: the
	// blocking one sends what it is given, once.
	opt := influxdb.DefaultOptions().SetHTTPClient(client).SetPrecision(time.Millisecond).SetUseGZip(true).SetApplicationName("pantau")
	return &Sink{opt: o, web: web, api: influxdb.NewClientWithOptions(o.URL, string(o.Token), opt).WriteAPIBlocking(o.Org, o.Bucket)}, nil
}

// errClosed is what a closed sink answers.
var errClosed = errors.New("influx: the sink is closed")

// Settle implements [sink.Sink]: what the server said yes to is in its log.
// Whether that outlives a crash of its machine is its setting, not ours.
func (s *Sink) Settle() time.Duration { return 0 }

// Write implements [sink.Sink].
func (s *Sink) Write(ctx context.Context, samples []series.Sample) (sink.Refused, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return sink.Refused{}, errClosed
	}
	if err := ctx.Err(); err != nil {
		return sink.Refused{}, err
	}
	limit := s.opt.Now().Add(series.MaxAhead + maxSkew).UnixMilli()
	points, refused := points(samples, limit)
	var r refusal
	for part := range slices.Chunk(points, requestPoints) {
		if err := s.send(ctx, part, &r); err != nil {
			return sink.Refused{}, err
		}
	}
	s.tell(r)
	refused.Old += r.old
	refused.Invalid += r.invalid
	return refused, nil
}

// refusal is what the server did not take of one write.
type refusal struct {
	old, invalid int    // samples
	first        string // what it said of the first
}

// send writes points, each of which the server has or has refused when it returns
// nil.
func (s *Sink) send(ctx context.Context, points []point, r *refusal) error {
	err := s.post(ctx, points)
	if err == nil {
		return nil
	}
	switch a := answerOf(err, len(points)); a.decision {
	case wait:
		if a.after > 0 {
			return &sink.Later{Err: s.because(err), After: a.after}
		}
		return s.because(err)
	case ask:
		return fmt.Errorf("%w: %w", s.because(err), sink.ErrOperator)
	case split:
		half := len(points) / 2
		if err := s.send(ctx, points[:half], r); err != nil {
			return err
		}
		return s.send(ctx, points[half:], r)
	default:
		n := 0
		for _, p := range points {
			n += p.samples
		}
		if a.old {
			r.old += n
		} else {
			r.invalid += n
		}
		if r.first == "" {
			r.first = a.said
		}
		return nil
	}
}

// post sends one request.
func (s *Sink) post(ctx context.Context, points []point) error {
	lines := make([]*line, len(points))
	for i, p := range points {
		lines[i] = p.line
	}
	return s.api.WritePoint(ctx, lines...)
}

// because is err with what a person needs to find the place.
func (s *Sink) because(err error) error {
	return fmt.Errorf("influx: bucket %q of %s: %w", s.opt.Bucket, s.opt.URL, short(err))
}

// tell logs that points were refused, from time to time: a whole bucket may refuse
// all that comes.
func (s *Sink) tell(r refusal) {
	n := r.old + r.invalid
	s.untold += n
	now := s.opt.Now()
	if n == 0 || now.Sub(s.told) < remind {
		return
	}
	s.opt.Logger.Error("InfluxDB refuses points for ever; they are in the journal only", "samples", s.untold, "said", r.first, "bucket", s.opt.Bucket)
	s.told, s.untold = now, 0
}

// Close implements [sink.Sink].
func (s *Sink) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.closed = true
	s.web.CloseIdleConnections()
	return nil
}

// strict lets no answer through as a success that InfluxDB does not give: a page
// with a status of 200, from whatever listens there, is none.
type strict struct{ http.RoundTripper }

func (t strict) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if ok := resp.StatusCode >= 200 && resp.StatusCode < 300; ok && resp.StatusCode != http.StatusNoContent {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: it answers %s to a write, where InfluxDB says 204", errStranger, resp.Status)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}
