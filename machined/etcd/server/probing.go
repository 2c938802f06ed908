package main

import (
	"time"
	_ "unsafe" // for linkname
)

// probeEvery is how often a member measures its way to each of the others.
// etcd's 4 s are two TLS handshakes a second in a cluster of three, which was a
// fifth of what an idle emulated member did; nothing but a metric and log lines
// comes of them. Streams notice a dead member by themselves.
const probeEvery = time.Minute

// proberInterval is rafthttp's own, which has no setting.
//
//go:linkname proberInterval go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp.proberInterval
var proberInterval time.Duration
