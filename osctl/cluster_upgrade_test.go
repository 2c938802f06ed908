package main

import (
	"fmt"
	"testing"
)

func TestPlanUpgrade(t *testing.T) {
	const new, old = "abc", "def"
	node := func(name, image string) nodeImage {
		return nodeImage{name: name, controlPlane: name[0] == 'c', rootHash: image, slots: true}
	}
	all := []nodeImage{node("w1", old), node("c1", old), node("w2", old), node("c2", old), node("c3", old), node("w3", old)}
	given := node("w4", old)
	given.slots = false
	for want, test := range map[string]struct {
		nodes   []nodeImage
		workers int
	}{
		"[[c1] [c2] [c3] [w1] [w2] [w3]]": {all, 1},
		"[[c1] [c2] [c3] [w1 w2] [w3]]":   {all, 2},
		"[[c1] [c2] [c3] [w1 w2 w3]]":     {all, 9},
		"[[c2] [w1]]":                     {[]nodeImage{node("c1", new), node("c2", old), node("w1", old), node("w2", new)}, 1},
		"[]":                              {[]nodeImage{node("c1", new), given}, 1},
	} {
		if got := fmt.Sprint(planUpgrade(test.nodes, new, test.workers)); got != want {
			t.Errorf("planned %s, want %s", got, want)
		}
	}
}
