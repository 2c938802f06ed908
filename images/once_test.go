package main

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

func testBuild(t *testing.T) *build {
	t.Helper()
	b, err := newBuild(t.TempDir(), amd64, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(b.path("build", "stamps"), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOnceMakesWhatChanged(t *testing.T) {
	b := testBuild(t)
	output := []string{b.path("thing")}
	made := 0
	produce := func(partial []string) error {
		made++
		return os.WriteFile(partial[0], nil, 0o644)
	}
	for _, step := range []struct {
		what   string
		before func()
		input  string
		want   int
	}{
		{"it is not there", func() {}, "a", 1},
		{"nothing changed", func() {}, "a", 1},
		{"an input changed", func() {}, "b", 2},
		{"it was deleted", func() { os.Remove(output[0]) }, "b", 3},
		{"its stamp was deleted", func() { os.RemoveAll(b.path("build", "stamps", "thing")) }, "b", 4},
	} {
		step.before()
		if err := b.once("thing", output, []string{step.input}, produce); err != nil {
			t.Fatal(err)
		}
		if made != step.want {
			t.Errorf("%s: made %d times, expected %d", step.what, made, step.want)
		}
	}
}

func TestOnceLeavesNothingWhenItFails(t *testing.T) {
	b := testBuild(t)
	broken := errors.New("broken")
	for range 2 {
		err := b.once("thing", []string{b.path("thing")}, nil, func(partial []string) error {
			if err := os.WriteFile(partial[0], []byte("half"), 0o644); err != nil {
				return err
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Fatalf("error %v", err)
		}
		if allExist([]string{b.path("thing")}) {
			t.Error("the half-made output was moved into place")
		}
	}
}

func TestDigestOfKeepsItemsApart(t *testing.T) {
	if digestOf("ab") == digestOf("a", "b") || digestOf() == digestOf("") {
		t.Error("different lists have one digest")
	}
}

func TestBuildsInOneFolderWaitForEachOther(t *testing.T) {
	first := testBuild(t)
	second, err := newBuild(first.out, first.arch, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := first.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := second.lock(impatient); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second build got the lock, too: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = second.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}
