package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
)

// Sizes of the datagrams in bytes.
const (
	HeartbeatSize    = 88
	HeartbeatAckSize = 44
	// HeartbeatKeySize is the length of a probe's HMAC key.
	HeartbeatKeySize = 32
)

const (
	heartbeatVersion = 1
	typeBeat         = 1
	typeBeatAck      = 2
	macSize          = 16 // HMAC-SHA256 cut to 128 bits (RFC 2104 section 5)
)

// Tri is yes, no, or not known: unknown is not no.
type Tri uint8

// The three answers; their numbers are the wire's.
const (
	Unknown Tri = iota
	No
	Yes
)

// TriOf turns a known answer into a Tri.
func TriOf(b bool) Tri {
	if b {
		return Yes
	}
	return No
}

// Health is what ails a probe itself, as a set of bits.
type Health uint32

// What can ail a probe. Unknown bits of newer probes are kept.
const (
	HealthSpool      Health = 1 << iota // results cannot be written to disk
	HealthClock                         // the wall clock is not trusted
	HealthPermission                    // ICMP or interface counters are not permitted
	HealthInterface                     // the configured interface is missing
	HealthInstrument                    // an instrument has stopped working
)

// Fault reports whether h means that the probe, not the line, needs a person.
// A clock that is wrong is corrected, so it is no fault by itself.
func (h Health) Fault() bool { return h&^HealthClock != 0 }

// Ailments names what is set in h, each by one word; bits of newer probes are
// "other".
func (h Health) Ailments() (words []string) {
	for bit, word := range map[Health]string{HealthSpool: "spool", HealthClock: "clock", HealthPermission: "permission",
		HealthInterface: "interface", HealthInstrument: "instrument"} {
		if h&bit != 0 {
			words = append(words, word)
			h &^= bit
		}
	}
	if h != 0 {
		words = append(words, "other")
	}
	slices.Sort(words)
	return words
}

// Heartbeat is one sign of life.
type Heartbeat struct {
	Probe   measure.ProbeID
	Boot    measure.BootID
	Counter uint64 // rises within a boot, across restarts of the program
	Mono    time.Duration
	Wall    time.Time
	// What the last reach result saw.
	Carrier, LANGateway, FirstHop, Beyond Tri
	Health                                Health
	ConfigVersion                         uint64
}

// Marshal returns the datagram, authenticated with key.
//
// Layout, big endian: version u8, type u8, flags u16 (two bits each, from the
// lowest: carrier, LAN gateway, first hop, beyond), probe [16] padded with
// zeros, boot [16], counter u64, mono i64 ns, wall i64 ns, health u32,
// config version u64, MAC [16] over all before it.
func (h Heartbeat) Marshal(key []byte) ([]byte, error) {
	boot, err := bootBytes(h.Boot)
	if err != nil {
		return nil, err
	}
	if len(h.Probe) == 0 || len(h.Probe) > measure.MaxProbeID {
		return nil, malformed("probe id of %d bytes", len(h.Probe))
	}
	b := make([]byte, 0, HeartbeatSize)
	b = append(b, heartbeatVersion, typeBeat)
	b = binary.BigEndian.AppendUint16(b, uint16(h.Carrier)|uint16(h.LANGateway)<<2|uint16(h.FirstHop)<<4|uint16(h.Beyond)<<6)
	b = append(b, h.Probe...)
	b = append(b, make([]byte, measure.MaxProbeID-len(h.Probe))...)
	b = append(b, boot...)
	b = binary.BigEndian.AppendUint64(b, h.Counter)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Mono))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Wall.UnixNano()))
	b = binary.BigEndian.AppendUint32(b, uint32(h.Health))
	b = binary.BigEndian.AppendUint64(b, h.ConfigVersion)
	return append(b, mac(key, b)...), nil
}

// HeartbeatProbe reads who claims to have sent a datagram, so that its key can
// be looked up. Nothing is authenticated yet.
func HeartbeatProbe(d []byte) (measure.ProbeID, error) {
	if len(d) != HeartbeatSize || d[0] != heartbeatVersion || d[1] != typeBeat {
		return "", malformed("no heartbeat of version %d", heartbeatVersion)
	}
	id := strings.TrimRight(string(d[4:20]), "\x00")
	if id == "" {
		return "", malformed("heartbeat without a probe id")
	}
	return measure.ProbeID(id), nil
}

// ParseHeartbeat authenticates and reads a datagram.
func ParseHeartbeat(d, key []byte) (Heartbeat, error) {
	id, err := HeartbeatProbe(d)
	if err != nil {
		return Heartbeat{}, err
	}
	body := d[:HeartbeatSize-macSize]
	if len(key) != HeartbeatKeySize || !hmac.Equal(mac(key, body), d[HeartbeatSize-macSize:]) {
		return Heartbeat{}, malformed("the heartbeat's MAC does not verify")
	}
	flags := binary.BigEndian.Uint16(d[2:])
	tri := func(shift int) Tri {
		if t := Tri(flags >> shift & 3); t <= Yes {
			return t
		}
		return Unknown
	}
	return Heartbeat{
		Probe: id, Boot: bootFromBytes(d[20:36]),
		Counter: binary.BigEndian.Uint64(d[36:]), Mono: time.Duration(binary.BigEndian.Uint64(d[44:])),
		Wall:    time.Unix(0, int64(binary.BigEndian.Uint64(d[52:]))).UTC(),
		Carrier: tri(0), LANGateway: tri(2), FirstHop: tri(4), Beyond: tri(6),
		Health: Health(binary.BigEndian.Uint32(d[60:])), ConfigVersion: binary.BigEndian.Uint64(d[64:]),
	}, nil
}

// HeartbeatAck answers one heartbeat. It is half a heartbeat's size, so that the
// collector cannot be used to amplify.
type HeartbeatAck struct {
	Counter       uint64
	CollectorTime time.Time
	ConfigVersion uint64
}

// Marshal returns the datagram. The MAC binds it to the probe and its boot,
// which are not repeated in it.
//
// Layout, big endian: version u8, type u8, zero u16, counter u64, collector's
// time i64 ns, config version u64, MAC [16] over all before it, then probe and
// boot as in the heartbeat.
func (a HeartbeatAck) Marshal(key []byte, probe measure.ProbeID, boot measure.BootID) ([]byte, error) {
	b := make([]byte, 0, HeartbeatAckSize)
	b = append(b, heartbeatVersion, typeBeatAck, 0, 0)
	b = binary.BigEndian.AppendUint64(b, a.Counter)
	b = binary.BigEndian.AppendUint64(b, uint64(a.CollectorTime.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, a.ConfigVersion)
	bound, err := ackBinding(b, probe, boot)
	if err != nil {
		return nil, err
	}
	return append(b, mac(key, bound)...), nil
}

// ParseHeartbeatAck authenticates and reads an answer to a heartbeat of probe
// in boot.
func ParseHeartbeatAck(d, key []byte, probe measure.ProbeID, boot measure.BootID) (HeartbeatAck, error) {
	if len(d) != HeartbeatAckSize || d[0] != heartbeatVersion || d[1] != typeBeatAck {
		return HeartbeatAck{}, malformed("no heartbeat answer of version %d", heartbeatVersion)
	}
	bound, err := ackBinding(d[:HeartbeatAckSize-macSize], probe, boot)
	if err != nil {
		return HeartbeatAck{}, err
	}
	if !hmac.Equal(mac(key, bound), d[HeartbeatAckSize-macSize:]) {
		return HeartbeatAck{}, malformed("the answer's MAC does not verify")
	}
	return HeartbeatAck{
		Counter:       binary.BigEndian.Uint64(d[4:]),
		CollectorTime: time.Unix(0, int64(binary.BigEndian.Uint64(d[12:]))).UTC(),
		ConfigVersion: binary.BigEndian.Uint64(d[20:]),
	}, nil
}

func ackBinding(b []byte, probe measure.ProbeID, boot measure.BootID) ([]byte, error) {
	raw, err := bootBytes(boot)
	if err != nil {
		return nil, err
	}
	bound := append([]byte(nil), b...)
	bound = append(bound, probe...)
	return append(bound, raw...), nil
}

func mac(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(nil)[:macSize]
}

func bootBytes(id measure.BootID) ([]byte, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(string(id), "-", ""))
	if err != nil || len(raw) != 16 {
		return nil, malformed("boot id %q is no UUID", id)
	}
	return raw, nil
}

func bootFromBytes(b []byte) measure.BootID {
	h := hex.EncodeToString(b)
	return measure.BootID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}
