package influx

import (
	"crypto/tls"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	api "github.com/influxdata/influxdb-client-go/v2/api/http"
)

// decision is what follows from an error of a write.
type decision int

const (
	// wait: the same again, later.
	wait decision = iota
	// ask: the same again, later, and say that somebody must mend something.
	ask
	// split: the server will not take some of the points. It does not say which
	// ones: smaller requests do. One point alone is refused.
	split
	// refuse: it takes none of them, now or ever.
	refuse
)

// answer is an error of a write, understood.
type answer struct {
	decision decision
	after    time.Duration // how long the server asks to be left alone; 0: it does not
	old      bool          // what it refuses is too old for the bucket
	said     string        // by the server
}

// errStranger says that what answers is no InfluxDB.
var errStranger = errors.New("something else than InfluxDB listens there")

// answerOf says what follows from the error of a request with n points.
//
// That points are refused is believed of InfluxDB alone: a proxy, or a port that
// speaks TLS, answers 400 too, and would empty the journal into nothing.
func answerOf(err error, n int) answer {
	var e *api.Error
	if !errors.As(err, &e) { // the encoder's: a point that cannot be written down
		a := answer{decision: split, said: clip(err.Error())}
		if n == 1 {
			a.decision = refuse
		}
		return a
	}
	a := answer{after: time.Duration(e.RetryAfter) * time.Second, said: clip(e.Message)}
	var untrusted *tls.CertificateVerificationError
	switch s := e.StatusCode; {
	case s == 0 && (errors.Is(err, errStranger) || errors.As(err, &untrusted)):
		a.decision = ask
	case s == 0, s == http.StatusRequestTimeout, s == http.StatusTooEarly, s == http.StatusTooManyRequests, s >= 500:
		a.decision = wait
	case s == http.StatusRequestEntityTooLarge:
		a.decision = split
	case (s == http.StatusBadRequest || s == http.StatusUnprocessableEntity) && byInfluxDB(e):
		a.decision = split
		a.old = strings.Contains(e.Message, "beyond retention policy")
		// A request goes to several parts of the server, of which one speaks. Only if
		// it dropped as many as there were did none take any.
		if dropped(e.Message) >= n {
			a.decision = refuse
		}
	default:
		a.decision = ask
	}
	if a.decision == split && n == 1 {
		a.decision = refuse
		if !byInfluxDB(e) {
			a.decision = ask // a proxy that lets nothing through
		}
	}
	return a
}

// byInfluxDB reports whether InfluxDB itself gave an answer: it says so in a
// header, or puts the error as its API does.
func byInfluxDB(e *api.Error) bool {
	if e.Header.Get("X-Influxdb-Version") != "" || e.Header.Get("X-Influxdb-Build") != "" {
		return true
	}
	// The library puts the status where the answer holds no code.
	coded := e.Code != "" && !strings.HasPrefix(e.Code, strconv.Itoa(e.StatusCode))
	return strings.HasPrefix(e.Header.Get("Content-Type"), "application/json") && e.Err == nil && coded
}

// dropped is the number of points that a message says were dropped; 0 if it says
// none.
func dropped(message string) int {
	_, tail, found := strings.Cut(message, "dropped=")
	if !found {
		return 0
	}
	end := strings.IndexFunc(tail, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		tail = tail[:end]
	}
	n, err := strconv.Atoi(tail)
	if err != nil {
		return 0
	}
	return n
}

// clip bounds what is repeated of a server's words.
func clip(s string) string {
	const most = 300
	s = strings.ToValidUTF8(strings.TrimSpace(s), "?")
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// shortened is an error with its text clipped: a server may answer with a page.
type shortened struct{ error }

func (s shortened) Error() string { return clip(s.error.Error()) }
func (s shortened) Unwrap() error { return s.error }

func short(err error) error { return shortened{err} }
