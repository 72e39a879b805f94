package target

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

const (
	// mostRequests is how many requests of one ticket may be under way: 16 streams, the
	// question, and those that an end has not reached yet. Whoever got hold of another's
	// token gets no more than one test out of it.
	mostRequests = 40
	// betweenRequests is for how long a ticket without a request still counts as a test:
	// its other direction follows. An id of a client's own choosing is for one alone.
	betweenRequests = 5 * time.Second
)

// test is one of those that are admitted.
type test struct {
	site     measure.SiteID // by its ticket; empty: not known
	requests int            // under way
	last     time.Time      // end of the last one
}

// tests are those under way, by ticket, else by the id that the client chose, else by
// the client's address.
type tests struct {
	most int

	mu    sync.Mutex
	byKey map[string]*test
}

func newTests(most int) *tests { return &tests{most: most, byKey: map[string]*test{}} }

// enter counts a request in. full says that there is no room for another test, or
// for another request of this one.
func (ts *tests) enter(key string, site measure.SiteID) (leave func(), full bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byKey[key]
	if t == nil {
		if len(ts.byKey) >= ts.most {
			ts.forget()
		}
		if len(ts.byKey) >= ts.most {
			return nil, true
		}
		t = &test{site: site}
		ts.byKey[key] = t
	}
	if site != "" && t.requests >= mostRequests {
		return nil, true
	}
	t.requests++
	return func() {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		t.requests--
		t.last = time.Now()
	}, false
}

// forget drops what is over. The caller holds mu.
func (ts *tests) forget() {
	for key, t := range ts.byKey {
		if t.requests == 0 && (t.site == "" || time.Since(t.last) > betweenRequests) {
			delete(ts.byKey, key)
		}
	}
}

// ofSite is how many tests of a site have requests under way; 0 if it is not known.
func (ts *tests) ofSite(site measure.SiteID) (n int) {
	if site == "" {
		return 0
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.byKey {
		if t.site == site && t.requests > 0 {
			n++
		}
	}
	return n
}

// admit lets a request of a test in, or answers it before any byte in bulk: 401
// without a ticket where one is demanded, 403 with one that does not serve, 503 above
// the limit of tests. ok is false if it was answered.
func (t *Target) admit(w http.ResponseWriter, r *http.Request, c *conn) (site measure.SiteID, leave func(), ok bool) {
	id := r.URL.Query().Get("id")
	key := "id " + id
	if !testID.MatchString(id) {
		key = "client " + c.client.String()
	}
	if len(t.trust) > 0 {
		ticket, status, err := t.ticket(r, id)
		if err != nil {
			t.metrics.refused.WithLabelValues(limitTicket).Inc()
			w.Header().Set("WWW-Authenticate", wire.TicketScheme)
			w.Header().Set("Connection", "close")
			text(w, status, fmt.Sprintf("%v\n", err))
			return "", nil, false
		}
		site, key = ticket.Site, "ticket "+ticket.ID.String()
	}
	leave, full := t.tests.enter(key, site)
	if full {
		t.metrics.refused.WithLabelValues(limitTests).Inc()
		w.Header().Set("Connection", "close")
		// Spread, so that those who were refused together do not return together.
		after := t.limits.RetryAfter + rand.N(t.limits.RetryAfter)
		w.Header().Set("Retry-After", strconv.Itoa(int(max(after, time.Second)/time.Second)))
		text(w, http.StatusServiceUnavailable, "too many tests; come back later\n")
		return "", nil, false
	}
	return site, leave, true
}

// ticket reads and judges a request's ticket. A test's id must begin with its
// ticket's.
func (t *Target) ticket(r *http.Request, id string) (ticket wire.Ticket, status int, err error) {
	token := r.Header.Get(wire.HeaderTicket)
	if token == "" {
		return ticket, http.StatusUnauthorized, fmt.Errorf("no ticket: this server measures for enrolled probes, whose collector gives them one for each test")
	}
	ticket, err = wire.VerifyTicket(token, t.trust, t.id, time.Now())
	if err == nil && id != "" && !strings.HasPrefix(id, ticket.ID.String()) {
		err = fmt.Errorf("for a test of another id")
	}
	if err != nil {
		return wire.Ticket{}, http.StatusForbidden, fmt.Errorf("the ticket is not good here: %w", err)
	}
	return ticket, http.StatusOK, nil
}
