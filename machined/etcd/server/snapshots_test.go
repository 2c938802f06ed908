package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// ago makes a good snapshot of some hours before noon.
func ago(hours int) kept {
	at := noon.Add(-time.Duration(hours) * time.Hour)
	return kept{name: snapshotName(at, int64(1000-hours)), time: at, revision: int64(1000 - hours)}
}

func damaged(one kept) kept {
	one.damaged = true
	return one
}

func TestNamesOfSnapshots(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 4, 5, 678, time.FixedZone("CET", 3600))
	name := snapshotName(at, 12345)
	if name != "20260102T140405Z-r12345.db" {
		t.Errorf("name %q", name)
	}
	got, ours := parseName(name)
	if !ours || got.name != name || got.revision != 12345 || !got.time.Equal(at.Truncate(time.Second)) {
		t.Errorf("read as %+v, %v", got, ours)
	}
	for _, foreign := range []string{
		"", "x.db", name + ".part", name + ".stored", "a" + name, "20261302T140405Z-r1.db", "20260102T140405Z-r-1.db",
		"20260102T140405Z-r99999999999999999999.db", "20260102T140405Z-r1.db\n", "../20260102T140405Z-r1.db",
		"20260102T140405Z-r9999999999999999999.db",
	} {
		if got, ours := parseName(foreign); ours {
			t.Errorf("%q is taken for a snapshot: %+v", foreign, got)
		}
	}
}

func TestSuperfluous(t *testing.T) {
	const day = 24 * time.Hour
	future := ago(-1000)
	for name, test := range map[string]struct {
		list   []kept
		number int
		maxAge time.Duration
		want   []kept
	}{
		"nothing there":           {nil, 3, day, nil},
		"fewer than may be":       {[]kept{ago(1), ago(2)}, 3, day, nil},
		"one too many":            {[]kept{ago(2), ago(3), ago(1), ago(4)}, 3, day, []kept{ago(4)}},
		"too old ones":            {[]kept{ago(1), ago(30), ago(40)}, 3, day, []kept{ago(30), ago(40)}},
		"no age is too old":       {[]kept{ago(1), ago(9000)}, 3, 0, nil},
		"the newest may be old":   {[]kept{ago(40), ago(50)}, 3, day, []kept{ago(50)}},
		"one is always kept":      {[]kept{ago(1), ago(2)}, 0, day, []kept{ago(2)}},
		"damaged, none newer":     {[]kept{damaged(ago(1)), ago(2), ago(3)}, 1, day, []kept{ago(3)}},
		"damaged, a newer one":    {[]kept{ago(1), damaged(ago(2)), ago(3)}, 2, day, []kept{damaged(ago(2))}},
		"all damaged":             {[]kept{damaged(ago(1)), damaged(ago(50))}, 1, day, nil},
		"damaged do not count":    {[]kept{damaged(ago(1)), damaged(ago(2)), ago(3), ago(4)}, 2, day, nil},
		"one good, old, not last": {[]kept{damaged(ago(1)), ago(100), damaged(ago(200))}, 1, day, []kept{damaged(ago(200))}},
		"of a clock gone wrong":   {[]kept{future, ago(1), ago(2)}, 2, day, []kept{future}},
		"only of a wrong clock":   {[]kept{future}, 2, day, nil},
	} {
		if got := superfluous(test.list, test.number, test.maxAge, noon); !slices.Equal(got, test.want) {
			t.Errorf("%s: removes %v, want %v", name, got, test.want)
		}
	}
}

// Whatever there is, something good of it stays.
func TestSuperfluousNeverTakesTheNewestGoodOne(t *testing.T) {
	for bits := range 1 << 8 {
		var list []kept
		for i := range 4 {
			one := ago(1 + i*20)
			one.damaged = bits>>i&1 == 1
			if bits>>(4+i)&1 == 1 {
				list = append(list, one)
			}
		}
		last, good := newest(list, noon)
		for number := range 3 {
			gone := superfluous(list, number, 30*time.Hour, noon)
			if good && slices.Contains(gone, last) {
				t.Fatalf("of %v it removes %v", list, gone)
			}
			if !good && len(gone) > 0 {
				t.Fatalf("of %v, all damaged, it removes %v", list, gone)
			}
		}
	}
}

func TestUntilNext(t *testing.T) {
	const interval = 6 * time.Hour
	for name, test := range map[string]struct {
		list []kept
		want time.Duration
	}{
		"none yet":              {nil, 0},
		"one of an hour ago":    {[]kept{ago(9), ago(1)}, 5 * time.Hour},
		"just due":              {[]kept{ago(6)}, 0},
		"missed while off":      {[]kept{ago(60)}, 0},
		"the newest is damaged": {[]kept{damaged(ago(1)), ago(4)}, 2 * time.Hour},
		"all are damaged":       {[]kept{damaged(ago(1))}, 0},
		"the clock was set back by minutes": {
			[]kept{{time: noon.Add(5 * time.Minute)}}, interval},
		"the clock was set back by years": {[]kept{ago(-9000)}, interval},
		"of a wrong clock, and a good one": {
			[]kept{ago(-9000), ago(2)}, 4 * time.Hour},
	} {
		if got := untilNext(test.list, interval, noon); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	var waits []string
	for failures := 1; failures < 8; failures++ {
		waits = append(waits, retryAfter(failures).String())
	}
	if got := fmt.Sprint(waits); got != "[1m0s 2m0s 4m0s 8m0s 16m0s 30m0s 30m0s]" {
		t.Errorf("waits %s", got)
	}
	if got := retryAfter(1 << 40); got != lastRetry {
		t.Errorf("after very many failures %s", got)
	}
}

func TestCheckSpace(t *testing.T) {
	if err := checkSpace(spare+100, 100); err != nil {
		t.Error(err)
	}
	if err := checkSpace(spare+99, 100); err == nil || !strings.Contains(err.Error(), "256 MiB to spare") {
		t.Errorf("with too little space: %v", err)
	}
}
