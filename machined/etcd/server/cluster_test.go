package main

import (
	"fmt"
	"testing"
)

// form bootstraps the first node and lets so many others join.
func form(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := newCluster(t)
	for i := range nodes {
		c.node(fmt.Sprintf("node-%d", i+1))
	}
	if err := c.nodes[0].service.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, each := range c.nodes {
		each.join()
	}
	return c
}

func TestNodesJoinAndVote(t *testing.T) {
	c := form(t, 3)
	c.nodes[0].put("greeting", "hello")
	for _, each := range c.nodes {
		each.hasMembers("node-1 node-2 node-3")
		each.holds("greeting", "hello")
		if err := each.service.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", each.options.Hostname, err)
		}
	}
}
