package supervise

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBackoff(t *testing.T) {
	var got []time.Duration
	for failures := 1; failures <= 9; failures++ {
		got = append(got, backoff(failures))
	}
	want := []time.Duration{
		500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
		16 * time.Second, 30 * time.Second, 30 * time.Second, 30 * time.Second,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if backoff(1<<30) != backoffMax {
		t.Error("not capped")
	}
}

func TestCountFailure(t *testing.T) {
	for _, c := range []struct {
		before int
		ran    time.Duration
		want   int
	}{{0, 0, 1}, {4, time.Second, 5}, {4, stableAfter - 1, 5}, {4, stableAfter, 1}} {
		if got := countFailure(c.before, c.ran); got != c.want {
			t.Errorf("countFailure(%d, %s) = %d, want %d", c.before, c.ran, got, c.want)
		}
	}
}

func TestWhatStopsBeforeAServiceIsOfALaterLevel(t *testing.T) {
	levels, err := startLevels([]Spec{{Name: "client", StopsBefore: []string{"server"}}, {Name: "server"}})
	if err != nil || len(levels) != 2 || levels[0][0] != "server" {
		t.Errorf("levels %v, %v", levels, err)
	}
}

func TestStartLevels(t *testing.T) {
	spec := func(name string, deps ...string) Spec { return Spec{Name: name, DependsOn: deps} }
	levels, err := startLevels([]Spec{spec("c", "a", "b"), spec("a"), spec("b", "a"), spec("d")})
	must(t, err)
	if diff := cmp.Diff([][]string{{"a", "d"}, {"b"}, {"c"}}, levels); diff != "" {
		t.Error(diff)
	}
	for name, specs := range map[string][]Spec{
		"in a circle: a, b":            {spec("a", "b"), spec("b", "a"), spec("c")},
		"depends on x, which does not": {spec("a", "x")},
		"added twice":                  {spec("a"), spec("a")},
		"in a circle: a":               {spec("a", "a")},
	} {
		if _, err := startLevels(specs); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want %q", err, name)
		}
	}
}

func TestCheckup(t *testing.T) {
	bad := errors.New("refused")
	began := time.Unix(0, 0)
	check := HealthCheck{Interval: 10 * time.Second, Failures: 3, StartTimeout: time.Minute}
	type step struct {
		after  time.Duration
		result error
		health Health
		fatal  bool
		next   time.Duration
	}
	for name, steps := range map[string][]step{
		"starts, then fails three times": {
			{0, bad, HealthUnknown, false, 100 * time.Millisecond},
			{time.Second, bad, HealthUnknown, false, 150 * time.Millisecond},
			{2 * time.Second, nil, Healthy, false, 10 * time.Second},
			{12 * time.Second, bad, Healthy, false, time.Second},
			{13 * time.Second, bad, Healthy, false, time.Second},
			{14 * time.Second, bad, Unhealthy, true, 0},
		},
		"one good answer forgives": {
			{0, nil, Healthy, false, 10 * time.Second},
			{1, bad, Healthy, false, time.Second},
			{2, bad, Healthy, false, time.Second},
			{3, nil, Healthy, false, 10 * time.Second},
			{4, bad, Healthy, false, time.Second},
		},
		"never starts": {
			{time.Second, bad, HealthUnknown, false, 100 * time.Millisecond},
			{time.Minute, bad, HealthUnknown, true, 150 * time.Millisecond},
		},
		"starved: never starts": {
			{time.Minute, bad, HealthUnknown, false, 100 * time.Millisecond},
			{5*time.Minute - 1, bad, HealthUnknown, false, 150 * time.Millisecond},
			{5 * time.Minute, bad, HealthUnknown, true, 225 * time.Millisecond},
		},
		"starved: fails five times as often": slices.Concat(
			[]step{{0, nil, Healthy, false, 10 * time.Second}},
			slices.Repeat([]step{{1, bad, Healthy, false, time.Second}}, 2),
			slices.Repeat([]step{{1, bad, Unhealthy, false, 10 * time.Second}}, 12),
			[]step{{2, bad, Unhealthy, true, 0}},
		),
		"starved: gets well": {
			{0, nil, Healthy, false, 10 * time.Second},
			{1, bad, Healthy, false, time.Second},
			{2, bad, Healthy, false, time.Second},
			{3, bad, Unhealthy, false, 10 * time.Second},
			{4, nil, Healthy, false, 10 * time.Second},
			{5, bad, Healthy, false, time.Second},
		},
	} {
		c := checkup{check: check, began: began}
		for i, s := range steps {
			v := c.judge(s.result, began.Add(s.after), func() bool { return strings.HasPrefix(name, "starved") })
			if v.health != s.health || (v.fatal != nil) != s.fatal || v.next != s.next {
				t.Errorf("%s, step %d: %+v, want %+v", name, i, v, s)
			}
		}
	}
	if startingDelay(100) != probeMax {
		t.Error("the starting delay is not capped")
	}
}

func TestSomePressure(t *testing.T) {
	for text, want := range map[string]float64{
		"some avg10=1.00 avg60=73.25 avg300=0.50 total=12\nfull avg10=0.00 avg60=99.00 avg300=0.00 total=0\n": 73.25,
		"full avg10=0.00 avg60=99.00 avg300=0.00 total=0\n":                                                   0,
		"some avg60=?\n": 0,
		"some":           0,
		"":               0,
	} {
		if got := somePressure([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestLookupUser(t *testing.T) {
	root := fstest.MapFS{
		"etc/passwd": {Data: []byte("root:x:0:0:root:/root:/none\netcd:x:100:100::/var/lib/etcd:/none\nbad:x:one:1::/:/none\n")},
		"etc/group":  {Data: []byte("root:x:0:\netcd:x:100:etcd\ndisk:x:6:backup,etcd\n")},
	}
	user, err := LookupUser(root, "etcd")
	must(t, err)
	if diff := cmp.Diff(User{Name: "etcd", UID: 100, GID: 100, Groups: []uint32{6}, Home: "/var/lib/etcd"}, user); diff != "" {
		t.Error(diff)
	}
	if user, err := LookupUser(root, ""); err != nil || user.UID != 0 || user.Name != "root" {
		t.Errorf("no name: %+v, %v", user, err)
	}
	for name, want := range map[string]string{"nobody": `no user "nobody"`, "bad": "etc/passwd:3"} {
		if _, err := LookupUser(root, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("user %s: %v, want %q", name, err, want)
		}
	}
}

func TestCapabilityNumbers(t *testing.T) {
	got, err := capabilityNumbers([]string{"CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", "CAP_CHECKPOINT_RESTORE"})
	must(t, err)
	if diff := cmp.Diff([]uintptr{10, 12, 40}, got); diff != "" {
		t.Error(diff)
	}
	if err := (Spec{Name: "x", Path: "/x", Capabilities: []string{"CAP_NET"}}).validate(); err == nil {
		t.Error("an unknown capability passed")
	}
}

func TestProtect(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for policy, want := range map[PanicPolicy]int{FailTask: 1, IgnorePanic: 1, RestartTask: 3} {
		synctest.Test(t, func(t *testing.T) { // the backoff passes at once
			runs := 0
			err := Protect(t.Context(), log, "task", policy, func(context.Context) error {
				if runs++; runs < 3 {
					panic("bug")
				}
				return nil
			})
			if runs != want {
				t.Errorf("policy %s: %d runs, want %d", policy, runs, want)
			}
			var caught *PanicError
			if errors.As(err, &caught) != (policy == FailTask) {
				t.Errorf("policy %s: error %v", policy, err)
			}
		})
	}
}
