package main

import (
	"strings"
	"testing"
)

func TestPays(t *testing.T) {
	const mib = 1 << 20
	for name, test := range map[string]struct {
		size, inUse int64
		want        bool
	}{
		"empty":                          {0, 0, false},
		"small and hollow":               {60 * mib, mib, false},
		"just 64 MiB to win":             {65 * mib, mib, false},
		"a little more":                  {66 * mib, mib, true},
		"large, less than half is free":  {1000 * mib, 600 * mib, false},
		"large, exactly half is free":    {1000 * mib, 500 * mib, false},
		"large, more than half is free":  {1000 * mib, 499 * mib, true},
		"more in use than there is, odd": {mib, 2 * mib, false},
	} {
		if got := pays(test.size, test.inUse); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestDefragmentNext(t *testing.T) {
	hollow := func(name string) usage { return usage{name: name, size: 200 << 20, inUse: 1 << 20, applied: 9000} }
	dense := func(name string) usage { return usage{name: name, size: 200 << 20, inUse: 190 << 20, applied: 9000} }
	with := func(one usage, change func(*usage)) usage { change(&one); return one }
	leader := func(one usage) usage { return with(one, func(u *usage) { u.leads = true }) }
	for name, test := range map[string]struct {
		members     []usage
		next, waits string
	}{
		"nothing to win":           {[]usage{leader(dense("a")), dense("b"), dense("c")}, "", ""},
		"one of them":              {[]usage{leader(dense("a")), dense("b"), hollow("c")}, "c", ""},
		"followers first":          {[]usage{leader(hollow("a")), hollow("c"), hollow("b")}, "b", ""},
		"the leader when all done": {[]usage{leader(hollow("a")), dense("b"), dense("c")}, "a", ""},
		"the only one":             {[]usage{leader(hollow("a"))}, "a", ""},
		"one is not well": {
			[]usage{leader(dense("a")), hollow("b"), with(dense("c"), func(u *usage) { u.trouble = "no answer" })}, "", "c is not well: no answer"},
		"a learner": {
			[]usage{leader(dense("a")), hollow("b"), with(dense("c"), func(u *usage) { u.learner = true })}, "", "c does not vote yet"},
		"one is behind": {
			[]usage{leader(dense("a")), hollow("b"), with(dense("c"), func(u *usage) { u.applied = 100 })}, "", "c is behind"},
		"not well, but nothing to win": {
			[]usage{leader(dense("a")), with(dense("c"), func(u *usage) { u.trouble = "no answer" })}, "", ""},
	} {
		next, found, waits := defragmentNext(test.members)
		if next.name != test.next || found != (test.next != "") || !strings.HasPrefix(waits, test.waits) || (waits == "") != (test.waits == "") {
			t.Errorf("%s: %q, %v, waits %q", name, next.name, found, waits)
		}
	}
}
