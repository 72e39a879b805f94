package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Type says what a record holds. Numbers are for ever; a reader returns records
// of types that it does not know.
type Type uint8

// The types. 0 is never written.
const (
	Batch     Type = 1 // a probe's signed batch, as it came
	State     Type = 2 // states of villages, see package state
	Start     Type = 3 // the collector started
	Stall     Type = 4 // the collector's own clock shows that it did not run
	Inventory Type = 5 // a revision of the inventory
	Incidents Type = 6 // which incidents go on, see package incident
)

// String is the type's name, "other" for one that this version does not know.
func (t Type) String() string {
	switch t {
	case Batch:
		return "batch"
	case State:
		return "state"
	case Start:
		return "start"
	case Stall:
		return "stall"
	case Inventory:
		return "inventory"
	case Incidents:
		return "incidents"
	}
	return "other"
}

// Header is one named fact about a record, such as a signature.
type Header struct{ Key, Value string }

// Bounds of a record's headers.
const (
	MaxHeaders     = 32   // in number
	MaxHeaderKey   = 255  // bytes of one key
	MaxHeaderBytes = 4096 // bytes of all keys and values, 3 more for each
)

// Record is what the journal keeps.
type Record struct {
	Type Type
	// ReceivedAt is the collector's time, kept to the nanosecond; read back in
	// UTC. It must be set.
	ReceivedAt time.Time
	// Headers keep their order; keys may repeat.
	Headers []Header
	Body    []byte
}

// Header returns the first value with this key.
func (r Record) Header(key string) (value string, ok bool) {
	for _, h := range r.Headers {
		if h.Key == key {
			return h.Value, true
		}
	}
	return "", false
}

// ErrInvalid is wrapped by [Journal.Append]'s error for a record that breaks the
// bounds above or has no type or time.
var ErrInvalid = errors.New("journal: invalid record")

// ErrTooLarge is wrapped by [Journal.Append]'s error for a record above
// Options.MaxRecordBytes.
var ErrTooLarge = errors.New("journal: record too large")

// The frame of a record on disk; see FORMAT.md. All numbers are little endian.
//
//	 0 sync    u32  the segment's own random word
//	 4 length  u32  bytes from offset 12 to the end of the body
//	 8 crc     u32  CRC-32C of segment u64, offset u64, length u32, and those bytes
//	12 type    u8
//	13 version u8
//	14 headers u16  bytes of the encoded headers
//	16 time    i64  received_at, Unix nanoseconds
//	24 headers, body, zeros to a multiple of 8
const (
	frameAlign   = 8
	frameCovered = 12 // where the bytes begin that length counts and crc covers
	frameFixed   = 24
	frameVersion = 1

	// maxFrameLength bounds what a reader allocates for one record, whatever its
	// length field says and whatever bound its writer had.
	maxFrameLength = 64 << 20
)

// errNewer: the frame is intact, this version cannot read it.
var errNewer = errors.New("journal: written by a newer version of this program")

// errMalformed: the frame is intact but its inside makes no sense.
var errMalformed = errors.New("journal: malformed record")

func align(n int64) int64 { return (n + frameAlign - 1) &^ (frameAlign - 1) }

// check reports why r cannot be written.
func (r Record) check(maxRecord int) error {
	if r.Type == 0 {
		return fmt.Errorf("%w: type 0", ErrInvalid)
	}
	if t := time.Unix(0, r.ReceivedAt.UnixNano()); !t.Equal(r.ReceivedAt) {
		return fmt.Errorf("%w: received at %v, beyond what is kept (years 1678 to 2262)", ErrInvalid, r.ReceivedAt)
	}
	if len(r.Headers) > MaxHeaders {
		return fmt.Errorf("%w: %d headers, at most %d", ErrInvalid, len(r.Headers), MaxHeaders)
	}
	for _, h := range r.Headers {
		if len(h.Key) == 0 || len(h.Key) > MaxHeaderKey {
			return fmt.Errorf("%w: a header key of %d bytes, from 1 to %d", ErrInvalid, len(h.Key), MaxHeaderKey)
		}
	}
	if n := r.headerBytes(); n > MaxHeaderBytes {
		return fmt.Errorf("%w: %d bytes of headers, at most %d", ErrInvalid, n, MaxHeaderBytes)
	}
	if n := r.frameSize(); n > int64(maxRecord) {
		return fmt.Errorf("%w: %d bytes with its frame, at most %d", ErrTooLarge, n, maxRecord)
	}
	return nil
}

func (r Record) headerBytes() int {
	n := 0
	for _, h := range r.Headers {
		n += 3 + len(h.Key) + len(h.Value)
	}
	return n
}

// frameSize is the number of bytes that r takes on disk.
func (r Record) frameSize() int64 {
	return align(int64(frameFixed + r.headerBytes() + len(r.Body)))
}

// appendFrame appends r as it stands at offset off of a segment. r has been
// checked.
func appendFrame(b []byte, id segmentID, off int64, r Record) []byte {
	begin := len(b)
	headers := r.headerBytes()
	length := uint32(frameFixed - frameCovered + headers + len(r.Body))
	b = binary.LittleEndian.AppendUint32(b, id.sync)
	b = binary.LittleEndian.AppendUint32(b, length)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, byte(r.Type), frameVersion)
	b = binary.LittleEndian.AppendUint16(b, uint16(headers))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.ReceivedAt.UnixNano()))
	for _, h := range r.Headers {
		b = append(b, byte(len(h.Key)))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(h.Value)))
		b = append(b, h.Key...)
		b = append(b, h.Value...)
	}
	b = append(b, r.Body...)
	frame := b[begin:]
	binary.LittleEndian.PutUint32(frame[8:], frameCRC(id, off, length, frame[frameCovered:]))
	for len(b)%frameAlign != begin%frameAlign {
		b = append(b, 0)
	}
	return b
}

// frameCRC covers the place as well as the bytes: a record is valid only where
// it was written.
func frameCRC(id segmentID, off int64, length uint32, covered []byte) uint32 {
	var place [20]byte
	binary.LittleEndian.PutUint64(place[0:], id.number)
	binary.LittleEndian.PutUint64(place[8:], uint64(off))
	binary.LittleEndian.PutUint32(place[16:], length)
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, covered)
}

// castagnoli selects the hardware's CRC-32C (RFC 3720, appendix B.4).
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameLength reads the fixed part of a frame. ok is false if no record can
// begin with it.
func frameLength(fixed []byte, id segmentID) (length uint32, ok bool) {
	if len(fixed) < frameFixed || binary.LittleEndian.Uint32(fixed) != id.sync {
		return 0, false
	}
	length = binary.LittleEndian.Uint32(fixed[4:])
	return length, length >= frameFixed-frameCovered && length <= maxFrameLength
}

// decodeFrame reads the record from an unpadded frame. intact is false if the
// bytes are not what was written at this place; an error with intact set means
// that they are, and yet cannot be understood.
func decodeFrame(frame []byte, id segmentID, off int64) (r Record, intact bool, err error) {
	length, ok := frameLength(frame, id)
	if !ok || int64(len(frame)) != frameCovered+int64(length) ||
		binary.LittleEndian.Uint32(frame[8:]) != frameCRC(id, off, length, frame[frameCovered:]) {
		return Record{}, false, nil
	}
	if v := frame[13]; v != frameVersion {
		return Record{}, true, fmt.Errorf("%w (record version %d)", errNewer, v)
	}
	headers := int(binary.LittleEndian.Uint16(frame[14:]))
	if headers > len(frame)-frameFixed || frame[12] == 0 {
		return Record{}, true, errMalformed
	}
	r.Type = Type(frame[12])
	r.ReceivedAt = time.Unix(0, int64(binary.LittleEndian.Uint64(frame[16:]))).UTC()
	h := frame[frameFixed : frameFixed+headers]
	for len(h) > 0 {
		if len(h) < 3 || len(r.Headers) == MaxHeaders {
			return Record{}, true, errMalformed
		}
		k, v := int(h[0]), int(binary.LittleEndian.Uint16(h[1:]))
		if h = h[3:]; k == 0 || k+v > len(h) {
			return Record{}, true, errMalformed
		}
		r.Headers = append(r.Headers, Header{Key: string(h[:k]), Value: string(h[k : k+v])})
		h = h[k+v:]
	}
	if body := frame[frameFixed+headers:]; len(body) > 0 {
		r.Body = append([]byte(nil), body...)
	}
	return r, true, nil
}
