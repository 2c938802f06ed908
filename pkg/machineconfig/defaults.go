package machineconfig

import (
	"net/netip"
	"time"
)

// Default returns a config with every default set and nothing else.
// Decoding writes over it.
func Default() *Config {
	return &Config{
		Machine: &Machine{
			Install: Install{Disk: "/dev/vda"},
			Kubelet: Kubelet{ShutdownGracePeriod: 30 * time.Second, DrainTimeout: 5 * time.Minute},
		},
		Cluster: &Cluster{
			Network: ClusterNetwork{
				PodSubnet:     netip.MustParsePrefix("10.244.0.0/16"),
				ServiceSubnet: netip.MustParsePrefix("10.96.0.0/16"),
				DNSDomain:     "cluster.local",
				CNI:           CNIFlannel,
				Backend:       BackendVXLAN,
			},
			// Five times etcd's own defaults: a small or emulated machine under
			// load misses 100 ms heartbeats without anything being wrong.
			Etcd: Etcd{
				HeartbeatInterval: 500 * time.Millisecond, ElectionTimeout: 5 * time.Second,
				Snapshots: EtcdSnapshots{Interval: 6 * time.Hour, Keep: 8, MaxAge: 7 * 24 * time.Hour},
			},
		},
		Secrets: &Secrets{},
	}
}
