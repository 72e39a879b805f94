package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

const boot = measure.BootID("0b5e6c1e-93a8-4b63-9a6e-2a5df3b3a001")

func codec(t testing.TB) *Codec {
	t.Helper()
	c, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func example() Batch {
	at := time.Date(2026, 3, 14, 7, 5, 12, 0, time.UTC)
	return Batch{
		Probe: "kl-0001", Epoch: Epoch{1, 2, 3}, Seq: 2, Previous: Digest{9, 8}, Boot: boot,
		SealedAt: at.Add(time.Minute), SealedMono: 91 * time.Second, Quality: measure.ClockCollector, Software: "1.0.0",
		Results: []measure.Result{
			{Kind: measure.KindReach, Outcome: measure.OK, Instrument: "pro-bing", MethodVersion: "1", MeasuredAt: at,
				Monotonic: 31 * time.Second, Boot: boot, Duration: 1200 * time.Millisecond,
				Values: []measure.Value{{Metric: measure.TargetReachable, Target: "olt-1", Number: 1}, {Metric: measure.ODPReachable, Number: 1}},
				Flags:  []measure.Flag{measure.FlagCPUBound}, BytesReceived: 300, BytesSent: 310},
			{Kind: measure.KindDownload, Outcome: measure.Failed, Reason: measure.ReasonRedirect, Detail: "302 to a login page",
				Instrument: "speedtest-go", MethodVersion: "1", Target: "ix", MeasuredAt: at, Monotonic: 31 * time.Second,
				Boot: "11111111-93a8-4b63-9a6e-2a5df3b3a001", Duration: time.Second},
		},
		Counters:   []Counter{{Kind: measure.KindReach, Outcome: measure.OK, Count: 17}, {Kind: measure.KindDownload, Outcome: measure.Failed, Reason: measure.ReasonRedirect, Count: 1}},
		SpoolBytes: 77, SpoolDropped: 1,
	}
}

func TestBatchSurvivesTheWire(t *testing.T) {
	c, want := codec(t), example()
	want.Budget, want.BudgetSpent = 3e9, 1<<40
	body, err := c.EncodeBatch(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.DecodeBatch(body)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestAPathSurvivesTheWire(t *testing.T) {
	c, want := codec(t), example()
	want.Results = append(want.Results, measure.Result{Kind: measure.KindPath, Outcome: measure.OK, Boot: boot, MeasuredAt: want.SealedAt,
		Values: []measure.Value{{Metric: measure.PathReached, Number: 1}},
		Hops: []measure.Hop{{Limit: 1, Address: netip.MustParseAddr("192.168.1.1"), RoundTrip: time.Millisecond},
			{Limit: measure.MaxHops, Address: netip.MustParseAddr("2001:db8::1")}}})
	body, err := c.EncodeBatch(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.DecodeBatch(body)
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || d != "" {
		t.Fatal(err, d)
	}
}

// The golden body was written by version 1 of the format. It must be readable for
// ever: a probe in the field is upgraded last.
func TestGoldenBodyOfVersion1(t *testing.T) {
	file := filepath.Join("testdata", "batch-v1.zst")
	c := codec(t)
	if os.Getenv("PANTAU_WRITE_GOLDEN") != "" {
		body, err := c.EncodeBatch(example())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.DecodeBatch(body)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(example(), got); d != "" {
		t.Fatal(d)
	}
}

func TestVocabularyAndEnumerationsAgree(t *testing.T) {
	check := func(d protoreflect.EnumDescriptor, prefix string, first int, words []string) {
		for i, w := range words {
			v := d.Values().ByNumber(protoreflect.EnumNumber(i + first))
			want := prefix + strings.ToUpper(w)
			if v == nil || string(v.Name()) != want {
				t.Errorf("%s %d is %v, want %s", d.Name(), i+first, v, want)
			}
		}
	}
	check(wirepb.Kind(0).Descriptor(), "KIND_", 1, texts(measure.Kinds()))
	check(wirepb.Outcome(0).Descriptor(), "OUTCOME_", 1, texts(outcomes[:]))
	check(wirepb.Reason(0).Descriptor(), "REASON_", 1, texts(measure.Reasons()))
	check(wirepb.Metric(0).Descriptor(), "METRIC_", 1, texts(measure.Metrics()))
	if got := int(measure.ClockCollector); got != int(wirepb.ClockQuality_CLOCK_COLLECTOR) {
		t.Errorf("clock qualities differ: %d", got)
	}
}

func texts[T ~string](list []T) (out []string) {
	for _, x := range list {
		out = append(out, string(x))
	}
	return out
}

func pack(t *testing.T, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll(raw, nil)
}

func validProto() *wirepb.Batch {
	return &wirepb.Batch{Probe: "p", Epoch: make([]byte, 16), Seq: 1, BootId: string(boot)}
}

func TestANewerProbeIsRead(t *testing.T) {
	m := validProto()
	m.Results = []*wirepb.Result{{Kind: 99, Outcome: 98, Reason: 97, Values: []*wirepb.Value{{Metric: 96, Number: 1}}}}
	m.ProtoReflect().SetUnknown(protoreflect.RawFields{0xf8, 0x3f, 0x01}) // field 1023, varint 1
	b, err := codec(t).DecodeBatch(pack(t, m))
	if err != nil {
		t.Fatal(err)
	}
	r := b.Results[0]
	if r.Kind != measure.KindOther || r.Outcome == measure.OK || r.Reason != measure.ReasonOther || r.Values[0].Metric != measure.MetricOther {
		t.Fatalf("got %+v", r)
	}
}

func TestMalformedBatchesAreRefused(t *testing.T) {
	bomb := func() []byte {
		enc, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return enc.EncodeAll(make([]byte, MaxDecompressed+1), nil)
	}()
	with := func(f func(*wirepb.Batch)) []byte {
		m := validProto()
		f(m)
		return pack(t, m)
	}
	for name, body := range map[string][]byte{
		"empty":       {},
		"no zstd":     []byte("{}"),
		"bomb":        bomb,
		"too large":   make([]byte, MaxBody+1),
		"no probe":    with(func(m *wirepb.Batch) { m.Probe = "" }),
		"long probe":  with(func(m *wirepb.Batch) { m.Probe = strings.Repeat("x", measure.MaxProbeID+1) }),
		"short epoch": with(func(m *wirepb.Batch) { m.Epoch = []byte{1} }),
		"seq 0":       with(func(m *wirepb.Batch) { m.Seq = 0 }),
		"odd digest":  with(func(m *wirepb.Batch) { m.PreviousDigest = []byte{1} }),
		"long text":   with(func(m *wirepb.Batch) { m.Results = []*wirepb.Result{{Detail: strings.Repeat("x", MaxText+1)}} }),
		"many values": with(func(m *wirepb.Batch) { m.Results = []*wirepb.Result{{Values: make([]*wirepb.Value, MaxValues+1)}} }),
		"many hops":   with(func(m *wirepb.Batch) { m.Results = []*wirepb.Result{{Hops: make([]*wirepb.Hop, measure.MaxHops+1)}} }),
		"hop 0":       with(func(m *wirepb.Batch) { m.Results = []*wirepb.Result{{Hops: []*wirepb.Hop{{Address: make([]byte, 4)}}}} }),
		"far hop": with(func(m *wirepb.Batch) {
			m.Results = []*wirepb.Result{{Hops: []*wirepb.Hop{{Limit: 65, Address: make([]byte, 4)}}}}
		}),
		"odd address": with(func(m *wirepb.Batch) {
			m.Results = []*wirepb.Result{{Hops: []*wirepb.Hop{{Limit: 1, Address: make([]byte, 5)}}}}
		}),
		"not a number":   with(func(m *wirepb.Batch) { m.Results = []*wirepb.Result{{Values: []*wirepb.Value{{Number: math.NaN()}}}} }),
		"infinite":       with(func(m *wirepb.Batch) { m.Results = []*wirepb.Result{{Values: []*wirepb.Value{{Number: math.Inf(1)}}}} }),
		"many results":   with(func(m *wirepb.Batch) { m.Results = make([]*wirepb.Result, MaxResults+1) }),
		"long boot name": with(func(m *wirepb.Batch) { m.BootId = strings.Repeat("b", MaxText+1) }),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := codec(t).DecodeBatch(body); !errors.Is(err, ErrMalformed) {
				t.Fatalf("got %v, want malformed", err)
			}
		})
	}
}

// Empty parts take two bytes on the wire and hundreds in memory: 900 bytes of
// zstd could ask for a gigabyte.
func TestABombOfEmptyPartsCostsLittle(t *testing.T) {
	head, err := proto.Marshal(validProto())
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := codec(t)
	for name, part := range map[string][]byte{"results": {0x52, 0}, "counters": {0x5a, 0}, "hops of a result": {0x82, 1, 0}} {
		head := head
		if strings.HasPrefix(name, "hops") {
			const length = (MaxDecompressed - 200) / 3 * 3
			head = binary.AppendUvarint(append(slices.Clone(head), 0x52), length)
			part = bytes.Repeat(part, length/3)
		} else {
			part = bytes.Repeat(part, (MaxDecompressed-100)/2)
		}
		body := enc.EncodeAll(append(slices.Clone(head), part...), nil)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := c.DecodeBatch(body)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if cost := after.TotalAlloc - before.TotalAlloc; cost > 4*MaxDecompressed {
			t.Errorf("%s: a body of %d bytes costs %d bytes of memory", name, len(body), cost)
		}
	}
}

func TestSignature(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("body")
	sig := Sign(key, body)
	if !Verify(pub, body, sig) {
		t.Fatal("its own signature does not verify")
	}
	if Verify(pub, []byte("bodY"), sig) || Verify(pub, body, sig[:10]) || Verify(pub[:5], body, sig) ||
		Verify(pub, body, ed25519.Sign(key, body)) { // without the domain
		t.Fatal("a wrong signature verifies")
	}
}

func TestHeartbeat(t *testing.T) {
	key := bytes.Repeat([]byte{7}, HeartbeatKeySize)
	want := Heartbeat{Probe: "kl-0001", Boot: boot, Counter: 5, Mono: time.Hour, Wall: time.Unix(1700000000, 5).UTC(),
		Carrier: Yes, LANGateway: Yes, FirstHop: No, Beyond: Unknown, Health: HealthSpool | 1<<30, ConfigVersion: 12}
	d, err := want.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	if len(d) != HeartbeatSize {
		t.Fatalf("%d bytes, want %d", len(d), HeartbeatSize)
	}
	got, err := ParseHeartbeat(d, key)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range d {
		bad := bytes.Clone(d)
		bad[i] ^= 1
		if _, err := ParseHeartbeat(bad, key); err == nil {
			t.Fatalf("a flipped bit in byte %d goes unnoticed", i)
		}
	}
	// The layout of version 1, for those who write a client in another language.
	const golden = "0101" + "001a" + "6b6c2d30303031000000000000000000" + "0b5e6c1e93a84b639a6e2a5df3b3a001" +
		"0000000000000005" + "0000034630b8a000" + "1797 9cfe362a0005" + "40000001" + "000000000000000c"
	if h := hex.EncodeToString(d[:HeartbeatSize-macSize]); h != strings.ReplaceAll(golden, " ", "") {
		t.Errorf("layout changed: %s", h)
	}
}

func TestHeartbeatAckIsBoundToProbeAndBoot(t *testing.T) {
	key := bytes.Repeat([]byte{7}, HeartbeatKeySize)
	want := HeartbeatAck{Counter: 9, CollectorTime: time.Unix(1700000000, 0).UTC(), ConfigVersion: 3}
	d, err := want.Marshal(key, "p", boot)
	if err != nil {
		t.Fatal(err)
	}
	if len(d) != HeartbeatAckSize || len(d) > HeartbeatSize {
		t.Fatalf("%d bytes", len(d))
	}
	if got, err := ParseHeartbeatAck(d, key, "p", boot); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := ParseHeartbeatAck(d, key, "q", boot); err == nil {
		t.Error("another probe takes the answer")
	}
	if _, err := ParseHeartbeatAck(d, key, "p", "11111111-93a8-4b63-9a6e-2a5df3b3a001"); err == nil {
		t.Error("another boot takes the answer")
	}
}

func TestClaimCodeAsPeopleTypeIt(t *testing.T) {
	want := ClaimCode{Fingerprint: [16]byte{0xde, 0xad, 15: 0xff}, Secret: [10]byte{1, 9: 2}}
	s := want.String()
	if len(s) != 44+10 {
		t.Fatalf("%q", s)
	}
	for _, typed := range []string{s, strings.ToLower(s), " " + strings.ReplaceAll(s, "-", " ") + "\n",
		strings.ReplaceAll(s, "-", ""), strings.NewReplacer("0", "o", "1", "l").Replace(s)} {
		if got, err := ParseClaimCode(typed); err != nil || got != want {
			t.Errorf("%q: %v", typed, err)
		}
	}
	for _, typed := range []string{"", "abc", s[:len(s)-1], s + "0", strings.Repeat("-", 10000)} {
		if _, err := ParseClaimCode(typed); !errors.Is(err, ErrClaimCode) {
			t.Errorf("%q is taken", typed)
		}
	}
	noticed, all := 0, 0
	for i, c := range s { // one wrong character
		for _, d := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
			if c == '-' || c == d {
				continue
			}
			all++
			if got, err := ParseClaimCode(s[:i] + string(d) + s[i+1:]); err != nil || got == want {
				noticed++
			}
		}
	}
	if float64(noticed)/float64(all) < 0.99 {
		t.Errorf("%d of %d wrong characters are noticed", noticed, all)
	}
}

func TestSentHeader(t *testing.T) {
	want := Sent{Boot: boot, Mono: 5 * time.Second, Wall: time.Unix(0, 1234).UTC()}
	if got, err := ParseSent(want.String()); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err := ParseSent(want.String() + "; later=1"); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, h := range []string{"", "boot=x", "boot=x; mono=a; wall=1", strings.Repeat("x", MaxText+1)} {
		if _, err := ParseSent(h); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q is taken", h)
		}
	}
}

func TestConfigVersionFollowsContent(t *testing.T) {
	a, err := ConfigVersion(&wirepb.ProbeConfig{LanGateway: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := ConfigVersion(&wirepb.ProbeConfig{LanGateway: "192.0.2.2"})
	c, _ := ConfigVersion(&wirepb.ProbeConfig{LanGateway: "192.0.2.1"})
	if a == b || a != c || a == 0 {
		t.Fatal(a, b, c)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	c := codec(f)
	body, err := c.EncodeBatch(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := c.DecodeBatch(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("unexplained: %v", err)
			}
			return
		}
		if _, err := c.EncodeBatch(b); err != nil {
			t.Skip("decoded but beyond what this version would send")
		}
	})
}

func FuzzHeartbeat(f *testing.F) {
	key := bytes.Repeat([]byte{7}, HeartbeatKeySize)
	d, err := Heartbeat{Probe: "p", Boot: boot}.Marshal(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d)
	f.Fuzz(func(t *testing.T, d []byte) {
		h, err := ParseHeartbeat(d, key)
		if err != nil {
			return
		}
		again, err := h.Marshal(key)
		if err != nil || len(again) != len(d) {
			t.Fatalf("%v", err)
		}
	})
}

func FuzzClaimCode(f *testing.F) {
	f.Add(ClaimCode{}.String())
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseClaimCode(s)
		if err == nil {
			if again, err := ParseClaimCode(c.String()); err != nil || again != c {
				t.Fatalf("%q: %v", s, err)
			}
		}
	})
}

func BenchmarkVerifyAndDecode(b *testing.B) {
	c := codec(b)
	pub, key, _ := ed25519.GenerateKey(nil)
	batch := example()
	for len(batch.Results) < 20 {
		batch.Results = append(batch.Results, batch.Results[0])
	}
	body, err := c.EncodeBatch(batch)
	if err != nil {
		b.Fatal(err)
	}
	sig := Sign(key, body)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if !Verify(pub, body, sig) {
			b.Fatal("signature")
		}
		if _, err := c.DecodeBatch(body); err != nil {
			b.Fatal(err)
		}
	}
}
