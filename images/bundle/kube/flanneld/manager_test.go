package flanneld

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// deadline of every wait: generous, as the machine may be busy.
const deadline = 60 * time.Second

// waitFor waits until try succeeds, and shows its last error if it does not.
func waitFor(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func newNode(name, subnet string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: subnet, PodCIDRs: []string{subnet}}}
}

// testManager is the manager of node "self" with a lease, and the events that
// it tells.
func testManager(t *testing.T, api *fakeAPI) (*manager, chan []lease.LeaseWatchResult) {
	t.Helper()
	server := httptest.NewServer(api)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		server.CloseClientConnections()
		server.Close()
	})
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	followed, err := followNodes(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{
		config: &subnet.Config{Network: network(t, "10.244.0.0/16")}, client: client, nodes: followed,
		view: view{node: "self", address: netip.MustParseAddr("10.0.0.1"), network: network(t, "10.244.0.0/16"), backend: "vxlan",
			reach: func(netip.Addr) error { return nil }},
		problems: &problems{file: filepath.Join(t.TempDir(), "problems")},
		lost:     make(chan error, 1),
	}
	got, err := m.AcquireLease(ctx, &lease.LeaseAttrs{PublicIP: ip.MustParseIP4("10.0.0.1"), BackendType: "vxlan", BackendData: []byte(mac)})
	if err != nil {
		t.Fatal(err)
	}
	if got.Subnet.String() != "10.244.0.0/24" {
		t.Fatalf("lease of %s", got.Subnet)
	}
	events := make(chan []lease.LeaseWatchResult, 100)
	go func() { _ = m.WatchLeases(ctx, events) }()
	return m, events
}

func (a *fakeAPI) announces(name, address string) func() bool {
	return func() bool {
		node := a.get(name)
		return node != nil && node.Annotations[managedKey] == "true" && node.Annotations[addressKey] == address
	}
}

func TestAnnouncementComesBackAfterTheNodeWasMadeAnew(t *testing.T) {
	api := newFakeAPI(newNode("self", "10.244.0.0/24"))
	m, _ := testManager(t, api)
	if !api.announces("self", "10.0.0.1")() {
		t.Fatalf("announced %v", api.get("self").Annotations)
	}
	if stored, _ := m.GetStoredMacAddresses(t.Context()); stored != "02:00:00:00:00:01" {
		t.Errorf("the link's address is said to be %q", stored)
	}
	api.remove("self")
	api.put(newNode("self", ""))
	api.put(newNode("self", "10.244.0.0/24"))
	eventually(t, "the announcement is back", api.announces("self", "10.0.0.1"))
}

func TestAnotherSubnetEndsTheProcess(t *testing.T) {
	api := newFakeAPI(newNode("self", "10.244.0.0/24"))
	m, events := testManager(t, api)
	api.put(newNode("self", "10.244.7.0/24"))
	select {
	case err := <-m.lost:
		if !strings.Contains(err.Error(), "changed from 10.244.0.0/24 to 10.244.7.0/24") {
			t.Error(err)
		}
	case <-time.After(deadline):
		t.Fatal("nobody noticed")
	}
	for range events { // closed, so that the backend ends
	}
}

func TestTwoMachinesOfOneNameAreTold(t *testing.T) {
	api := newFakeAPI(newNode("self", "10.244.0.0/24"))
	m, _ := testManager(t, api)
	other := api.get("self")
	other.Annotations[addressKey] = "10.0.0.99"
	api.put(other)
	waitFor(t, "the problem is told", func() error {
		text, err := os.ReadFile(m.problems.file)
		if err == nil && !strings.Contains(string(text), `a machine at "10.0.0.99" announces itself as this node, self`) {
			err = errors.New(string(text))
		}
		return err
	})
}

func TestPeersAreToldAsTheyComeAndGo(t *testing.T) {
	api := newFakeAPI(newNode("self", "10.244.0.0/24"), announcing("a", "10.244.1.0/24", "10.0.0.2", "vxlan", mac))
	_, told := testManager(t, api)
	want := func(kind lease.EventType, subnet, address string) {
		t.Helper()
		select {
		case results := <-told:
			for _, result := range results {
				for _, event := range result.Events {
					if event.Type != kind || event.Lease.Subnet.String() != subnet || event.Lease.Attrs.PublicIP.String() != address {
						t.Fatalf("told %+v, want %d %s %s", event, kind, subnet, address)
					}
				}
			}
		case <-time.After(deadline):
			t.Fatalf("not told of %s", subnet)
		}
	}
	want(lease.EventAdded, "10.244.1.0/24", "10.0.0.2")
	api.put(newNode("b", "10.244.2.0/24")) // announces nothing yet
	api.put(announcing("b", "10.244.2.0/24", "10.0.0.3", "vxlan", mac))
	want(lease.EventAdded, "10.244.2.0/24", "10.0.0.3")
	api.remove("a")
	want(lease.EventRemoved, "10.244.1.0/24", "10.0.0.2")
}
