package main

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestOnlookerSpeaksAtFirstOnNewsAndEveryHalfMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var out bytes.Buffer
		o := &onlooker{out: &out, look: func(context.Context) sight {
			now := time.Since(began).Round(time.Second)
			seen := sight{
				state:       func(context.Context) string { return fmt.Sprintf("pending at %s", now) },
				awaitChange: func(ctx context.Context) { <-ctx.Done() },
			}
			if now > 40*time.Second {
				seen.causes = []string{"no node fits\nand more"}
			}
			return seen
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 110*time.Second)
		defer cancel()
		o.run(ctx)
		o.last(t.Context())
		want := "pending at 5s\npending at 35s\nno node fits\nand more\npending at 1m35s\nno node fits\nand more\n"
		if out.String() != want {
			t.Errorf("it said\n%s\nwant\n%s", &out, want)
		}
	})
}
