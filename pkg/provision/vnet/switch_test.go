package vnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// deadline bounds every wait of a test; only a broken one meets it.
const deadline = 10 * time.Second

var (
	macA      = hardwareAddr{2, 0, 0, 0, 0, 0xa}
	macB      = hardwareAddr{2, 0, 0, 0, 0, 0xb}
	macC      = hardwareAddr{2, 0, 0, 0, 0, 0xc}
	broadcast = hardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	multicast = hardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

func frame(dst, src hardwareAddr, payload string) []byte {
	f := append(dst[:], src[:]...)
	return append(append(f, 0x88, 0xb5), payload...) // an EtherType for experiments
}

func attach(t *testing.T, sw *Switch, names ...string) []*Port {
	t.Helper()
	var ports []*Port
	for _, name := range names {
		p, err := sw.Attach(name)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, p)
	}
	return ports
}

func wantFrame(t *testing.T, p *Port, want []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	got, err := p.Receive(ctx)
	if err != nil {
		t.Fatalf("port %s: no frame: %v", p.name, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("port %s received %x, want %x", p.name, got, want)
	}
}

// wantNothing needs no wait: without a delay rule, Send has queued before it returns.
func wantNothing(t *testing.T, p *Port) {
	t.Helper()
	if got, _ := p.queue.take(time.Now()); got != nil {
		t.Fatalf("port %s received %x, want nothing", p.name, got)
	}
}

func TestSwitchFloodsWhatItDoesNotKnow(t *testing.T) {
	for name, dst := range map[string]hardwareAddr{"broadcast": broadcast, "multicast": multicast, "unknown unicast": macB} {
		t.Run(name, func(t *testing.T) {
			ports := attach(t, NewSwitch(), "a", "b", "c")
			f := frame(dst, macA, "x")
			ports[0].Send(f)
			wantFrame(t, ports[1], f)
			wantFrame(t, ports[2], f)
			wantNothing(t, ports[0])
		})
	}
}

func TestSwitchLearns(t *testing.T) {
	sw := NewSwitch()
	ports := attach(t, sw, "a", "b", "c")
	a, b, c := ports[0], ports[1], ports[2]
	hello := frame(broadcast, macB, "hello")
	b.Send(hello)
	wantFrame(t, a, hello)
	wantFrame(t, c, hello)

	toB := frame(macB, macA, "for b only")
	a.Send(toB)
	wantFrame(t, b, toB)
	wantNothing(t, c)

	// B's address moves to port c.
	moved := frame(broadcast, macB, "moved")
	c.Send(moved)
	wantFrame(t, a, moved)
	wantFrame(t, b, moved)
	a.Send(toB)
	wantFrame(t, c, toB)
	wantNothing(t, b)

	// Unplugged, it is unknown again.
	c.Detach()
	a.Send(toB)
	wantFrame(t, b, toB)
}

func TestSwitchForgetsNothingButLearnsNoMoreThanItCanHold(t *testing.T) {
	sw := NewSwitch()
	ports := attach(t, sw, "a", "b")
	for i := range 2 * maxAddresses {
		ports[0].Send(frame(macB, hardwareAddr{2, 1, 0, byte(i >> 16), byte(i >> 8), byte(i)}, ""))
	}
	if got := len(sw.table); got != maxAddresses {
		t.Errorf("the switch holds %d addresses, want %d", got, maxAddresses)
	}
}

func TestSwitchIgnoresImpossibleFrames(t *testing.T) {
	ports := attach(t, NewSwitch(), "a", "b")
	ports[0].Send(nil)
	ports[0].Send(make([]byte, minFrame-1))
	ports[0].Send(make([]byte, maxFrame+1))
	wantNothing(t, ports[1])
}

func TestAttachTwice(t *testing.T) {
	sw := NewSwitch()
	attach(t, sw, "a")
	if _, err := sw.Attach("a"); err == nil {
		t.Error("one name was attached twice")
	}
}

func TestStalledPortFreezesNobody(t *testing.T) {
	ports := attach(t, NewSwitch(), "a", "stalled", "c")
	for i := range 3 * queueFrames { // nobody reads "stalled"
		f := frame(broadcast, macA, fmt.Sprint(i))
		ports[0].Send(f)
		wantFrame(t, ports[2], f)
	}
	if got, want := ports[1].queue.drops(), uint64(2*queueFrames); got != want {
		t.Errorf("%d frames dropped, want %d", got, want)
	}
	wantFrame(t, ports[1], frame(broadcast, macA, "0")) // the tail was dropped, not the head
}

func TestQueueBoundsBytes(t *testing.T) {
	q := newQueue()
	for range queueFrames {
		q.push(make([]byte, maxFrame), time.Time{})
	}
	if got := len(q.frames) * maxFrame; got > queueBytes {
		t.Errorf("the queue holds %d bytes, limit %d", got, queueBytes)
	}
}

func TestFaults(t *testing.T) {
	cut := Fault{Cut: true}
	tests := map[string]struct {
		rules        []FaultRule
		there, back  bool // does a frame from a reach b, and from b reach a?
		thereToOther bool // does one from a reach c?
	}{
		"none":            {nil, true, true, true},
		"one direction":   {[]FaultRule{{"a", "b", cut}}, false, true, true},
		"both directions": {[]FaultRule{{"a", "b", cut}, {"b", "a", cut}}, false, false, true},
		"all from a":      {[]FaultRule{{"a", AnyPort, cut}}, false, true, false},
		"all to b":        {[]FaultRule{{AnyPort, "b", cut}}, false, true, true},
		"everything":      {[]FaultRule{{AnyPort, AnyPort, cut}}, false, false, false},
		"exact wins":      {[]FaultRule{{"a", AnyPort, cut}, {"a", "b", Fault{DropPercent: 1e-12}}}, true, true, false},
		"drop all":        {[]FaultRule{{"a", "b", Fault{DropPercent: 100}}}, false, true, true},
		"healed":          {[]FaultRule{{"a", "b", cut}, {"a", "b", Fault{}}}, true, true, true},
		"partition":       {PartitionRules([]string{"a"}, []string{"b", "c"}), false, false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			sw := NewSwitch()
			ports := attach(t, sw, "a", "b", "c")
			if err := sw.SetFaults(test.rules...); err != nil {
				t.Fatal(err)
			}
			check := func(from, to *Port, f []byte, passes bool) {
				t.Helper()
				from.Send(f)
				if passes {
					wantFrame(t, to, f)
				} else {
					wantNothing(t, to)
				}
			}
			check(ports[0], ports[1], frame(macB, macA, ""), test.there)
			wantOther := frame(macB, macA, "") // unknown unicast so far: c is flooded too
			if test.thereToOther {
				wantFrame(t, ports[2], wantOther)
			} else {
				wantNothing(t, ports[2])
			}
			check(ports[1], ports[0], frame(macA, macB, ""), test.back)
			sw.Heal()
			check(ports[0], ports[1], frame(macB, macA, "healed"), true)
			if rules := sw.Faults(); len(rules) != 0 {
				t.Errorf("rules after Heal: %v", rules)
			}
		})
	}
}

func TestSetFaultsRefusesNonsense(t *testing.T) {
	sw := NewSwitch()
	good := FaultRule{"a", "b", Fault{Cut: true}}
	for _, bad := range []FaultRule{
		{"", "b", Fault{Cut: true}},
		{"a", "", Fault{Cut: true}},
		{"a", "b", Fault{DropPercent: 101}},
		{"a", "b", Fault{DropPercent: -1}},
		{"a", "b", Fault{Delay: -1}},
		{"a", "b", Fault{Delay: MaxDelay + 1}},
	} {
		if err := sw.SetFaults(good, bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	if rules := sw.Faults(); len(rules) != 0 {
		t.Errorf("a refused set left rules: %v", rules)
	}
}

func TestDelayHoldsUpOnlyItsDirection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := NewSwitch()
		ports := attach(t, sw, "a", "b", "c")
		if err := sw.SetFaults(FaultRule{"a", "b", Fault{Delay: 300 * time.Millisecond}}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		slow1, slow2, quick := frame(macB, macA, "slow 1"), frame(macB, macA, "slow 2"), frame(macB, macC, "quick")
		ports[0].Send(slow1)
		ports[0].Send(slow2)
		ports[2].Send(quick)
		wantFrame(t, ports[1], quick)
		if took := time.Since(start); took != 0 {
			t.Errorf("the healthy direction took %s", took)
		}
		wantFrame(t, ports[1], slow1)
		wantFrame(t, ports[1], slow2)
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("the delayed direction took %s, want 300ms", took)
		}
	})
}

func TestReceiveEndsWithItsContext(t *testing.T) {
	ports := attach(t, NewSwitch(), "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ports[0].Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}
