package ingest

import (
	"errors"
	"net/http"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/collector/registry"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// maxEnrollBody bounds an enrolment, in bytes.
const maxEnrollBody = 4 << 10

// Wrong claims slow down their address. 80 bits cannot be guessed anyhow; this is
// for the log and the disk of who reads it. An office where many boxes are
// enrolled makes no wrong claims, so it is never slowed.
const (
	wrongClaims     = 10
	wrongClaimEvery = 10 * time.Second
	maxClaimers     = 4096
)

func (s *Server) enroll(w http.ResponseWriter, r *http.Request) (answer, *refusal) {
	now := s.opt.Now()
	from := network(r.RemoteAddr)
	if wait, ok := s.wrongs.look(from, now); !ok {
		return answer{}, later(http.StatusTooManyRequests, tooMany, max(wait, time.Second), "too many wrong claim codes from your address: wait as told")
	}
	release, no := s.hold(requestCost)
	if no != nil {
		return answer{}, no
	}
	defer release()
	body, no := s.read(w, r, maxEnrollBody)
	if no != nil {
		return answer{}, no
	}
	var m wirepb.EnrollRequest
	if err := proto.Unmarshal(body, &m); err != nil {
		return answer{}, refuse(http.StatusBadRequest, malformed, "the enrolment cannot be read: %v", err)
	}
	grant, err := s.opt.Registry.Claim(m.Secret, m.PublicKey)
	switch {
	case errors.Is(err, registry.ErrInvalid):
		return answer{}, refuse(http.StatusBadRequest, malformed, "the enrolment is incomplete: %v", err)
	case errors.Is(err, registry.ErrUnavailable):
		return answer{}, later(http.StatusServiceUnavailable, noRegistry, 10*time.Second, "the collector cannot write to its disk: try again in a minute, the code stays good")
	case err != nil:
		if errors.Is(err, registry.ErrClaimUnknown) {
			s.wrongs.take(from, now)
		}
		return answer{}, refuse(http.StatusForbidden, claimRefused, "%v", err)
	}
	config, version := s.config(grant.Probe)
	s.metrics.enrolments.Inc()
	return protobuf(&wirepb.EnrollResponse{
		Probe: string(grant.Probe), Site: string(grant.Site), HeartbeatKey: grant.HeartbeatKey[:],
		CaCertificate:   s.opt.Registry.CA().Raw,
		CollectorTimeNs: s.opt.Now().UnixNano(), ConfigVersion: version, Config: config,
	})
}

// network is what one subscriber has: an IPv4 address, or the /64 around an IPv6
// one (RFC 6177). It is invalid, and shared, if addr is no address and port.
func network(addr string) netip.Prefix {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Prefix{}
	}
	ip := a.Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // bits fit
	return p
}
