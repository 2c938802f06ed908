package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHealth(t *testing.T) {
	start := time.Now()
	for name, c := range map[string]struct {
		answers   []state // one a second
		want      state
		dead      bool
		lame      bool // its connections leave if another one is ready
		lameLater bool
	}{
		"ready":                  {[]state{ready}, ready, false, false, false},
		"first boot":             {[]state{unreachable, unreachable, answering}, answering, false, false, true},
		"a blip":                 {[]state{ready, answering, answering, answering, answering}, answering, false, false, true},
		"a blip that is over":    {[]state{ready, answering, answering, answering, ready}, ready, false, false, false},
		"two refusals":           {[]state{ready, unreachable, unreachable}, unreachable, false, false, false},
		"no power":               {[]state{ready, silent, unreachable, unreachable}, unreachable, true, true, true},
		"its process ended":      {[]state{ready, unreachable, unreachable, unreachable}, unreachable, true, true, true},
		"and came back":          {[]state{unreachable, unreachable, unreachable, answering}, answering, false, false, true},
		"it hangs":               {[]state{ready, silent, silent, silent, silent}, silent, false, false, true},
		"not for a minute ready": {append([]state{ready}, slices.Repeat([]state{answering}, 60)...), answering, false, true, true},
	} {
		h := health{state: unknown}
		now := start
		for _, answer := range c.answers {
			h = h.after(answer, now)
			now = now.Add(time.Second)
		}
		if h.state != c.want || h.dead != c.dead {
			t.Errorf("%s: %+v", name, h)
		}
		if got := h.closes(true, now); got != c.lame {
			t.Errorf("%s: with another one ready it closes connections: %v", name, got)
		}
		if got := h.closes(false, now.Add(lameAfter)); got != c.dead {
			t.Errorf("%s: with no other one ready it closes connections: %v", name, got)
		}
		if got := h.closes(true, now.Add(lameAfter)); got != c.lameLater {
			t.Errorf("%s: after a while it closes connections: %v", name, got)
		}
	}
}

func TestClientsRefusalsDoNotCountForDeath(t *testing.T) {
	h := health{state: unknown}.after(ready, time.Now())
	for range 10 {
		h = h.refused()
	}
	if h.state != unreachable || h.dead {
		t.Errorf("after ten refusals: %+v", h)
	}
	if h = h.connected(); h.state != silent {
		t.Errorf("after a connection that was made: %+v", h)
	}
}

func TestSchedule(t *testing.T) {
	s := schedule{ready: 5 * time.Second}
	for failures, want := range []time.Duration{
		5 * time.Second, 500 * time.Millisecond, 750 * time.Millisecond, 1125 * time.Millisecond,
	} {
		if got := s.next(health{failures: failures}, 0.5); got != want {
			t.Errorf("%d failures: %s, want %s", failures, got, want)
		}
	}
	if got := s.next(health{failures: 1000}, 0.5); got != 5*time.Second {
		t.Errorf("long dead: %s", got)
	}
	if low, high := s.next(health{}, 0), s.next(health{}, 1); low != 4500*time.Millisecond || high != 5500*time.Millisecond {
		t.Errorf("between %s and %s", low, high)
	}
	if got := (schedule{ready: 100 * time.Millisecond}).next(health{failures: 1}, 0.5); got > 100*time.Millisecond {
		t.Errorf("a failed one is asked less often than a ready one: %s", got)
	}
}

func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		choices []choice
		want    string
	}{
		"none":                   {nil, ""},
		"by state":               {[]choice{{address: "a", state: unreachable}, {address: "b", state: answering}, {address: "c", state: silent}, {address: "d", state: ready}, {address: "e", state: unknown}}, "d b e c a"},
		"preferred":              {[]choice{{address: "a", state: ready}, {address: "b", state: ready, prefer: true, connections: 9}}, "b a"},
		"preferred, not ready":   {[]choice{{address: "a", state: answering, prefer: true}, {address: "b", state: ready}}, "b a"},
		"preferred, none ready":  {[]choice{{address: "a", state: answering}, {address: "b", state: answering, prefer: true}}, "b a"},
		"fewest connections":     {[]choice{{address: "a", state: ready, connections: 3}, {address: "b", state: ready, connections: 2}}, "b a"},
		"equal ones by chance":   {[]choice{{address: "a", state: ready, random: 7}, {address: "b", state: ready, random: 4}}, "b a"},
		"the worst, if need be":  {[]choice{{address: "a", state: unreachable}}, "a"},
		"chance decides nothing": {[]choice{{address: "a", state: silent, random: 1}, {address: "b", state: ready, random: 2}}, "b a"},
	} {
		if got := strings.Join(order(c.choices), " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	f := upstreamFile{prefer: "10.0.0.1:6443", listen: "127.0.0.1:7445"}
	got, err := f.parse([]byte(`["cp.example.com:6443", "10.0.0.1:6443", "[fd00::1]:6443", "cp.example.com:6443"]`))
	if want := []string{"10.0.0.1:6443", "cp.example.com:6443", "[fd00::1]:6443"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if got, err := (upstreamFile{}).parse([]byte(`[]`)); err != nil || len(got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
	var many []string
	for i := range maxUpstreams {
		many = append(many, fmt.Sprintf(`"10.0.1.%d:6443"`, i))
	}
	for text, want := range map[string]string{
		``:                                  "unexpected end",
		`["10.0.0.2:6443"`:                  "unexpected end",
		`{"a": 1}`:                          "cannot unmarshal",
		`["10.0.0.2"]`:                      "HOST:PORT",
		`[":6443"]`:                         "HOST:PORT",
		`["10.0.0.2:0"]`:                    "HOST:PORT",
		`["10.0.0.2:65536"]`:                "HOST:PORT",
		`["127.0.0.1:7445"]`:                "the balancer itself",
		"[" + strings.Join(many, ",") + "]": "at most 65",
	} {
		if _, err := f.parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"--upstreams and --ca":  {"--ca=x"},
		"takes flags only":      {"--ca=x", "--upstreams=y", "z"},
		"must be above zero":    {"--ca=x", "--upstreams=y", "--interval=0s"},
		`--prefer: "10.0.0.1"`:  {"--ca=x", "--upstreams=y", "--prefer=10.0.0.1"},
		"not defined: -nothing": {"--nothing"},
	} {
		if _, err := parseOptions(args, t.Output()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", args, err, want)
		}
	}
}
