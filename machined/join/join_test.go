package join

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// newJoin is a worker that asks as a test says.
func newJoin(t *testing.T, config *machineconfig.Config, ask func(context.Context) (*Identity, error)) (*Join, *[]string) {
	t.Helper()
	problems := &[]string{}
	j, err := New(Options{
		Config: workerOf(config, "10.77.0.11"), Hostname: "worker-1", MachineID: thisMachine, Addresses: []netip.Addr{stranger},
		Dir: filepath.Join(t.TempDir(), "identity"), Log: slog.New(slog.DiscardHandler),
		Report: func(err error) {
			text := "none"
			if err != nil {
				text = err.Error()
			}
			*problems = append(*problems, text)
		},
	})
	must(t, err)
	j.ask = ask
	return j, problems
}

func TestObtainAsksUntilItIsLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := newConfig(t)
		began := time.Now()
		signed := sign(t, config, began)
		var asked []time.Duration
		away := attempt{target: "10.77.0.11:50001", kind: unreached, reason: "connection refused"}
		wrong := attempt{target: "10.77.0.11:50001", kind: refused, reason: "wrong token"}
		answers := []attempt{away, away, wrong, wrong}
		j, problems := newJoin(t, config, func(context.Context) (*Identity, error) {
			asked = append(asked, time.Since(began))
			if len(asked) > len(answers) {
				return signed, nil
			}
			return nil, newRoundError(answers[len(asked)-1 : len(asked)])
		})
		if _, err := j.Pair(useKubeletClient); !errors.Is(err, errNone) {
			t.Errorf("a pair before joining: %v", err)
		}
		identity, err := j.Obtain(t.Context())
		if err != nil || identity != signed {
			t.Fatalf("got %v, %v", identity, err)
		}
		for i, least := range []time.Duration{0, time.Second, 3 * time.Second, 63 * time.Second, 123 * time.Second} {
			if asked[i] < least || asked[i] > least+least/5 {
				t.Errorf("asked the %d. time after %s, want about %s", i+1, asked[i], least)
			}
		}
		want := "no control-plane node lets this node in: 10.77.0.11:50001: connection refused|" +
			"no control-plane node lets this node in: 10.77.0.11:50001: wrong token|none"
		if got := strings.Join(*problems, "|"); got != want {
			t.Errorf("problems %s", got)
		}
		if _, err := j.Pair(useKubeletClient); err != nil {
			t.Error(err)
		}

		// The next boot asks nobody.
		again, _ := newJoin(t, config, func(context.Context) (*Identity, error) { return nil, errors.New("asked") })
		again.options.Dir = j.options.Dir
		if identity, err := again.Obtain(t.Context()); err != nil || !identity.Until().Equal(signed.Until()) {
			t.Errorf("after a reboot: %v", err)
		}
	})
}

func TestObtainEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	j, _ := newJoin(t, newConfig(t), func(context.Context) (*Identity, error) {
		cancel()
		return nil, errors.New("cut off")
	})
	if _, err := j.Obtain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAnIdentityThatCannotBeKeptIsUsedAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := newConfig(t)
		signed := sign(t, config, time.Now())
		j, problems := newJoin(t, config, func(context.Context) (*Identity, error) { return signed, nil })
		must(t, os.WriteFile(j.options.Dir, nil, 0o600)) // in the folder's place
		if _, err := j.Obtain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(*problems) != 1 || !strings.Contains((*problems)[0], "keep the node's identity") {
			t.Errorf("problems %q", *problems)
		}
		must(t, os.Remove(j.options.Dir))
		ctx, cancel := context.WithTimeout(t.Context(), 2*checkEvery)
		defer cancel()
		j.Keep(ctx, func(*Identity) { t.Error("renewed before its time") })
		if _, err := load(j.options.Dir, j.owner, j.by, time.Now()); err != nil || (*problems)[len(*problems)-1] != "none" {
			t.Errorf("not kept later on: %v, %q", err, *problems)
		}
	})
}

func TestKeepRenewsAtAThirdOfTheLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := newConfig(t)
		asked, fails := 0, 0
		j, problems := newJoin(t, config, nil)
		j.ask = func(context.Context) (*Identity, error) {
			asked++
			if fails > 0 {
				fails--
				return nil, errors.New("all are away")
			}
			return sign(t, config, time.Now()), nil
		}
		_, err := j.Obtain(t.Context())
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var renewals []time.Duration
		began := time.Now()
		fails = 3 // of the first renewal: not worth a word
		done := make(chan struct{})
		go func() {
			defer close(done)
			j.Keep(ctx, func(identity *Identity) {
				if pair, _ := j.Pair(useAPIServer); string(pair.Cert) != string(identity.pairs[useAPIServer].Cert) {
					t.Error("told of another identity than there is")
				}
				renewals = append(renewals, time.Since(began))
				if len(renewals) == 2 {
					cancel()
				}
			})
		}()
		<-done
		day := 24 * time.Hour
		for i, least := range []time.Duration{9 * day, 18 * day} {
			if len(renewals) != 2 || renewals[i] < least || renewals[i] > least+2*day {
				t.Errorf("renewals at %v", renewals)
			}
		}
		if asked != 6 || len(*problems) != 0 {
			t.Errorf("asked %d times; problems %q", asked, *problems)
		}
	})
}

// A node whose address changed while it was off starts by its identity all the
// same, be the control plane there or not, and renews it before its time.
func TestAnIdentityOfFormerAddressesIsUsedAndRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := newConfig(t)
		former := sign(t, config, time.Now())
		j, problems := newJoin(t, config, nil)
		j.owner.addresses = []netip.Addr{stranger.Next()}
		must(t, save(j.options.Dir, former))
		asked, away := 0, 2
		j.ask = func(context.Context) (*Identity, error) {
			if asked++; asked <= away {
				return nil, errors.New("all are away")
			}
			next := *sign(t, config, time.Now())
			next.owner = j.owner
			return &next, nil
		}
		identity, err := j.Obtain(t.Context())
		if err != nil || asked > 0 || identity.isFor(j.owner.addresses) {
			t.Fatalf("asked %d times, got %v, %v", asked, identity, err)
		}
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		j.Keep(ctx, func(next *Identity) {
			cancel()
			if took := time.Since(began); took > 5*time.Minute || !next.isFor(j.owner.addresses) {
				t.Errorf("after %s: for %v", took, next.owner.addresses)
			}
		})
		if len(*problems) != 2 || !strings.Contains((*problems)[0], "are for [10.77.0.14], its addresses are [10.77.0.15] now") || (*problems)[1] != "none" {
			t.Errorf("problems %q", *problems)
		}
		if kept, err := load(j.options.Dir, j.owner, j.by, time.Now()); err != nil || !kept.isFor(j.owner.addresses) {
			t.Errorf("not kept: %v", err)
		}
	})
}

func TestKeepTellsWhenTheIdentityRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := newConfig(t)
		j, problems := newJoin(t, config, nil)
		j.ask = func(context.Context) (*Identity, error) { return sign(t, config, time.Now()), nil }
		_, err := j.Obtain(t.Context())
		must(t, err)
		began, asked := time.Now(), 0
		j.ask = func(context.Context) (*Identity, error) {
			asked++
			return nil, errors.New("all are away")
		}
		day := 24 * time.Hour
		for _, each := range []struct {
			until time.Duration
			want  int
		}{{19 * day, 0}, {21 * day, 1}, {29 * day, 1}} {
			ctx, cancel := context.WithDeadline(t.Context(), began.Add(each.until))
			j.Keep(ctx, func(*Identity) { t.Error("renewed by nobody") })
			cancel()
			if len(*problems) != each.want {
				t.Errorf("after %s: problems %q", each.until, *problems)
			}
		}
		if want := "are not renewed: all are away"; !strings.Contains((*problems)[0], want) {
			t.Errorf("problem %q, want %q", *problems, want)
		}
		if asked > 24*21 {
			t.Errorf("asked %d times in three weeks", asked)
		}
	})
}

func TestNewNeedsSomeoneToAsk(t *testing.T) {
	config := newConfig(t)
	broken := workerOf(config, "10.77.0.11")
	broken.Secrets.KubernetesCA.Cert = "x"
	for says, each := range map[string]*machineconfig.Config{
		"cluster.controlPlane.addresses": workerOf(config), "secrets.kubernetesCA": broken,
	} {
		if _, err := New(Options{Config: each}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}
