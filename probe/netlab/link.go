package netlab

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// DefaultQueue is how long a full queue of a shaped link takes to empty, if
// [LinkOptions] do not say.
const DefaultQueue = 200 * time.Millisecond

// DefaultBurst is how much of a shaped link's unused time it may make up for,
// if [LinkOptions] do not say. It is what a late timer may cost. Measured in
// turns on two processors that were busy and stolen from: with 2 ms links fell
// 13 to 34% short of their rate, with 20 ms up to 5%, with 50 ms up to 0.7%. A
// machine that stands still for longer shows all the same.
const DefaultBurst = 50 * time.Millisecond

// DefaultCongestionControl is what TCP uses between the two ends of a link, if
// [LinkOptions] do not say.
const DefaultCongestionControl = "cubic"

const (
	leastRate  = 8e3     // bits per second: one full frame in 1.5 s
	mostRate   = 32e9    // bits per second; tbf counts bytes in 32 bits
	leastBurst = 3200    // bytes: two full frames
	leastQueue = 16000   // bytes: ten full frames
	mostBytes  = 1 << 30 // of queue or burst
	nameLength = unix.IFNAMSIZ - 1
)

// LinkOptions describe a link between the nodes a and b.
type LinkOptions struct {
	// NameA and NameB name the interfaces, at most 15 bytes each.
	NameA, NameB string
	// AddrA and AddrB are the interfaces' addresses with the length of their
	// common prefix. The zero value: none.
	AddrA, AddrB netip.Prefix
	// RateAB and RateBA are what the link carries from a to b and back, in bits
	// per second of Ethernet frames without checksum: see [PayloadRate].
	// 0: as much as the machine can.
	//
	// Shape where a router forwards, not where a measured connection begins:
	// a host keeps so little of its own TCP in the queue (TCP small queues)
	// that on a busy machine the link runs dry and carries less than its rate.
	RateAB, RateBA float64
	// Queue is how long the queue before each shaped direction takes to empty
	// when full. 0: [DefaultQueue].
	Queue time.Duration
	// Burst is how long a shaped direction may be idle, for lack of frames or of
	// a processor, and still make up for it. After idleness so much of its rate
	// passes at once: a rate counted from the first byte reads Burst / duration
	// too high. 0: [DefaultBurst].
	Burst time.Duration
	// CongestionControl is TCP's between AddrA and AddrB. Routes that lead
	// further name their own. Empty: [DefaultCongestionControl].
	CongestionControl string
	// Offload lets TCP hand over up to 64 KiB at a time as if it were one frame.
	// It spares the processor, for rates beyond some hundred Mbit/s; but the
	// interfaces' counters then miss the headers of all but the first frame.
	Offload bool
}

// Link is a cable between two nodes.
type Link struct{ A, B *Port }

// Port is one end of a link.
type Port struct {
	Node *Node
	Name string       // of the interface
	Addr netip.Prefix // zero: none

	peer         *Port
	queue, burst time.Duration
	cc           string
	link         netlink.Link
}

// Link joins a and b, with both ends up.
func (l *Lab) Link(a, b *Node, o LinkOptions) (*Link, error) {
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	if o.Burst == 0 {
		o.Burst = DefaultBurst
	}
	if o.CongestionControl == "" {
		o.CongestionControl = DefaultCongestionControl
	}
	k := &Link{
		A: &Port{Node: a, Name: o.NameA, Addr: o.AddrA, queue: o.Queue, burst: o.Burst, cc: o.CongestionControl},
		B: &Port{Node: b, Name: o.NameB, Addr: o.AddrB, queue: o.Queue, burst: o.Burst, cc: o.CongestionControl},
	}
	k.A.peer, k.B.peer = k.B, k.A
	for _, p := range k.ends() {
		if p.Name == "" || len(p.Name) > nameLength {
			return nil, fmt.Errorf("netlab: interface name %q: want 1 to %d bytes", p.Name, nameLength)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if err := k.build(o); err != nil {
		return nil, errors.Join(refusal(fmt.Errorf("netlab: link %s: %w", k, err)), k.remove())
	}
	l.links = append(l.links, k)
	return k, nil
}

func (k *Link) build(o LinkOptions) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = k.A.Name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: k.B.Name, PeerNamespace: netlink.NsFd(k.B.Node.ns.fd)}
	err := k.A.Node.netlink(func(nl *netlink.Handle) error { return nl.LinkAdd(veth) })
	if err != nil {
		return err
	}
	for i, p := range k.ends() {
		if err := p.setUp(o.Offload); err != nil {
			return err
		}
		if rate := []float64{o.RateAB, o.RateBA}[i]; rate != 0 {
			if err := p.SetRate(rate); err != nil {
				return err
			}
		}
	}
	return k.Up()
}

func (p *Port) setUp(offload bool) error {
	err := p.Node.netlink(func(nl *netlink.Handle) (err error) {
		if p.link, err = nl.LinkByName(p.Name); err != nil {
			return err
		}
		if !offload {
			if err := nl.LinkSetGSOMaxSegs(p.link, 1); err != nil {
				return err
			}
		}
		if p.Addr.IsValid() {
			if err := nl.AddrAdd(p.link, &netlink.Addr{IPNet: ipNet(p.Addr)}); err != nil {
				return fmt.Errorf("address %s: %w", p.Addr, err)
			}
		}
		return nl.LinkSetUp(p.link)
	})
	if err != nil || !p.Addr.IsValid() {
		return err
	}
	// In place of the one that the kernel makes with the address.
	return p.Node.addRoute(netlink.Route{
		LinkIndex: p.link.Attrs().Index, Dst: ipNet(p.Addr.Masked()), Src: p.Addr.Addr().AsSlice(),
		Scope: netlink.SCOPE_LINK, Congctl: p.cc,
	})
}

func (k *Link) ends() [2]*Port { return [2]*Port{k.A, k.B} }

// remove takes the link away; removing one end removes both.
func (k *Link) remove() error {
	if k.A.link == nil {
		return nil
	}
	err := k.A.Node.netlink(func(nl *netlink.Handle) error { return nl.LinkDel(k.A.link) })
	if err := ignoring(err, unix.ENODEV); err != nil {
		return fmt.Errorf("netlab: remove link %s: %w", k, err)
	}
	return nil
}

// String names the two ends.
func (k *Link) String() string {
	return k.A.Node.name + ":" + k.A.Name + " - " + k.B.Node.name + ":" + k.B.Name
}

// Up sets both ends up.
func (k *Link) Up() error { return errors.Join(k.A.Up(), k.B.Up()) }

// Down sets both ends down.
func (k *Link) Down() error { return errors.Join(k.A.Down(), k.B.Down()) }

// IsUp reports whether both ends are set up.
func (k *Link) IsUp() (bool, error) {
	a, errA := k.A.IsUp()
	b, errB := k.B.IsUp()
	return a && b, errors.Join(errA, errB)
}

// Down sets this end down: nothing passes in either direction, and the other
// end loses its carrier.
func (p *Port) Down() error {
	return p.failed("set down", p.Node.netlink(func(nl *netlink.Handle) error { return nl.LinkSetDown(p.link) }))
}

// Up sets this end up. On return its node's routes are in place and, if the
// other end is up too, frames pass.
func (p *Port) Up() error {
	err := p.Node.netlink(func(nl *netlink.Handle) error { return nl.LinkSetUp(p.link) })
	if err != nil {
		return p.failed("set up", err)
	}
	if err := p.Node.restoreRoutes(); err != nil {
		return p.failed("routes", err)
	}
	return errors.Join(p.settle(), p.peer.settle())
}

// settlePatience bounds the wait for the kernel to follow up a change of
// carrier. It does so within a second.
const settlePatience = 5 * time.Second

// settle waits until an end that is up and has a carrier passes frames: the
// kernel drops them silently from the carrier's return until a worker of its
// own has seen it.
func (p *Port) settle() error {
	for deadline := time.Now().Add(settlePatience); ; time.Sleep(time.Millisecond) {
		var a *netlink.LinkAttrs
		err := p.Node.netlink(func(nl *netlink.Handle) error {
			link, err := nl.LinkByName(p.Name)
			if err == nil {
				a = link.Attrs()
			}
			return err
		})
		if err != nil {
			return p.failed("look up", err)
		}
		const ready = unix.IFF_UP | unix.IFF_LOWER_UP
		if a.RawFlags&ready != ready || a.OperState == netlink.OperUp {
			return nil
		}
		if time.Now().After(deadline) {
			return p.failed("wait for", unix.ETIMEDOUT)
		}
	}
}

// IsUp reports whether this end is set up.
func (p *Port) IsUp() (bool, error) {
	var up bool
	err := p.Node.netlink(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(p.Name)
		if err == nil {
			up = link.Attrs().Flags&net.FlagUp != 0
		}
		return err
	})
	return up, p.failed("look up", err)
}

// Counters are the bytes of the frames that this end has received and sent since
// the link was made, frame check sequence not counted. A frame that its own queue
// dropped was not sent.
func (p *Port) Counters() (received, sent uint64, err error) {
	err = p.Node.netlink(func(nl *netlink.Handle) error {
		link, err := nl.LinkByIndex(p.link.Attrs().Index)
		if err == nil {
			received, sent = link.Attrs().Statistics.RxBytes, link.Attrs().Statistics.TxBytes
		}
		return err
	})
	return received, sent, p.failed("read the counters of", err)
}

// SetRate shapes what leaves by this end to so many bits per second of Ethernet
// frames without checksum, from 8 kbit/s to 32 Gbit/s. 0 removes the shaping.
func (p *Port) SetRate(bitsPerSecond float64) error {
	index := p.link.Attrs().Index
	root := netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	if bitsPerSecond == 0 {
		err := p.Node.netlink(func(nl *netlink.Handle) error { return nl.QdiscDel(&netlink.Tbf{QdiscAttrs: root}) })
		return p.failed("unshape", ignoring(err, unix.ENOENT, unix.EINVAL)) // no qdisc of ours
	}
	if !(bitsPerSecond >= leastRate && bitsPerSecond <= mostRate) {
		return fmt.Errorf("netlab: rate %g bit/s: want 0 or %g to %g", bitsPerSecond, leastRate, mostRate)
	}
	bucket := tbf(root, bitsPerSecond, p.queue, p.burst)
	return p.failed("shape", p.Node.netlink(func(nl *netlink.Handle) error { return nl.QdiscReplace(bucket) }))
}

// Backlog is how many bytes wait at this end for their turn on the shaped link;
// 0 where nothing is shaped.
func (p *Port) Backlog() (bytes int, err error) {
	err = p.Node.netlink(func(nl *netlink.Handle) error {
		all, err := nl.QdiscList(p.link)
		if err != nil {
			return err
		}
		for _, q := range all {
			if a := q.Attrs(); q.Type() == "tbf" && a.Statistics != nil && a.Statistics.Queue != nil {
				bytes = int(a.Statistics.Queue.Backlog)
			}
		}
		return nil
	})
	return bytes, p.failed("look at the queue", err)
}

// tbf sizes a token bucket: the burst at least two frames, the queue at least
// ten.
func tbf(root netlink.QdiscAttrs, bitsPerSecond float64, queue, burst time.Duration) *netlink.Tbf {
	perSecond := bitsPerSecond / 8
	size := func(d time.Duration, least float64) uint32 {
		return uint32(min(max(perSecond*d.Seconds(), least), mostBytes))
	}
	rate := uint64(math.Round(perSecond))
	return &netlink.Tbf{QdiscAttrs: root, Rate: rate, Limit: size(queue, leastQueue),
		Buffer: netlink.Xmittime(rate, size(burst, leastBurst))}
}

func (p *Port) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return refusal(fmt.Errorf("netlab: %s %s of %s: %w", what, p.Name, p.Node.name, err))
}

// PayloadRate is the TCP payload that a link of l2 bits per second carries when
// full, in the same unit: l2 x 1448 / 1514.
//
// A full frame is 1514 bytes: 14 of Ethernet header (IEEE 802.3; the token
// bucket sees neither checksum nor preamble) and 1500 of IP packet, of which 20
// are IPv4 header (RFC 791), 20 TCP header (RFC 9293) and 12 its timestamp
// option with padding (RFC 7323). 1448 remain. Nothing else is on the link;
// the acknowledgements travel in the other direction.
func PayloadRate(l2 float64) float64 { return l2 * 1448 / 1514 }
