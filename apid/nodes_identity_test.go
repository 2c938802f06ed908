package main

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	machinepb "github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/identity"
)

func TestTheOtherNodeLearnsWhoCallsFromApidOnly(t *testing.T) {
	c := startCluster(t, nil)
	rita := c.cp1.client("rita", identity.Reader, "os:unheard-of")
	rita.Now = time.Now() // both certificates made of it expire at one time
	until := certificateOf(t, c.cp1.ca, rita).NotAfter.UTC().Format(time.RFC3339)
	got, err := ask(t, c.cp1.dial(t, c.cp1.ca, rita), "worker", identity.MetadataUser, "root", identity.MetadataRole, identity.Admin,
		identity.MetadataUntil, "2999-01-01T00:00:00Z", "keelson-anything", "x", "request-id", "7")
	if err != nil {
		t.Fatal(err)
	}
	if got.Hostname != "worker" || got.Version != "rita until "+until || got.Kernel != "os:reader,os:unheard-of" {
		t.Errorf("machined of %s was told user %q and roles %q", got.Hostname, got.Version, got.Kernel)
	}
	if got.Go != "" || got.RootHash != "7" {
		t.Errorf("of the client's metadata machined got %q and %q", got.Go, got.RootHash)
	}
}

// The other node may run another version, with another table.
func TestRolesAreCheckedAgainOnTheOtherNode(t *testing.T) {
	c := startCluster(t, func(name string, o *options) {
		if name == "worker" {
			o.methods = maps.Clone(methods)
			o.methods[machinepb.MachineService_Version_FullMethodName] = admins
		}
	})
	conn := c.cp1.dial(t, c.cp1.ca, c.cp1.client("rita", identity.Reader))
	if _, err := ask(t, conn, "cp-2"); err != nil {
		t.Errorf("where the table allows it: %v", err)
	}
	_, err := ask(t, conn, "worker")
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), `user "rita" has os:reader`) {
		t.Errorf("where it does not: %v", err)
	}
	c.worker.log.await(t, "call refused", "client.name=rita", "client.remote=127.0.0.1", "client.via=cp-1")
	if calls := c.worker.machined.calls.Load(); calls != 0 {
		t.Errorf("%d calls reached machined", calls)
	}
	if _, err := machinepb.NewMachineServiceClient(conn).Reboot(of(t, "worker"), &machinepb.RebootRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("reboot: %v", err)
	}
	if calls := c.cp1.server.others.pool.nodes["worker"].used; calls.IsZero() {
		t.Error("the worker was not asked at all")
	}
}

func TestChangesAreLoggedOnBothNodes(t *testing.T) {
	c := startCluster(t, nil)
	if _, err := machinepb.NewMachineServiceClient(c.cp1.admin(t)).Reboot(of(t, "worker"), &machinepb.RebootRequest{}); err != nil {
		t.Fatal(err)
	}
	c.cp1.log.await(t, "call admitted", "client.name=ada", "MachineService/Reboot", "node=worker")
	c.worker.log.await(t, "call admitted", "client.name=ada", "client.roles=[os:admin]", "MachineService/Reboot", "client.via=cp-1", "node=worker")
}

func TestForwardersAreHeldToTheRules(t *testing.T) {
	c := startCluster(t, nil)
	later := time.Now().Add(30 * time.Minute).UTC().Format(time.RFC3339)
	ada := []string{identity.MetadataUser, "ada", identity.MetadataRole, identity.Admin, identity.MetadataUntil, later}
	both := forwarder("cp-2")
	both.Organizations = append(both.Organizations, identity.Admin)
	nameless := forwarder("")
	serving := forwarder("cp-2")
	serving.Client, serving.Server = false, true
	for _, test := range []struct {
		name string
		conn *grpc.ClientConn
		node string
		sent []string
		want codes.Code
		says string
	}{
		{"for whom it says", c.cp1.dial(t, c.cp1.ca, forwarder("cp-2")), "", ada, codes.OK, ""},
		{"with the node's name", c.cp1.dial(t, c.cp1.ca, forwarder("cp-2")), "cp-1", ada, codes.OK, ""},
		{"for nobody", c.cp1.dial(t, c.cp1.ca, forwarder("cp-2")), "", nil, codes.Unauthenticated, "does not say for whom"},
		{"for nobody, with a role of its own", c.cp1.dial(t, c.cp1.ca, both), "", nil, codes.Unauthenticated, "does not say for whom"},
		{"for one without a role", c.cp1.dial(t, c.cp1.ca, forwarder("cp-2")), "", append(ada[:2:2], ada[4:]...), codes.Unauthenticated, "does not say for whom"},
		{"without a name", c.cp1.dial(t, c.cp1.ca, nameless), "worker", ada, codes.Unauthenticated, "names no node"},
		{"to a third node", c.cp1.dial(t, c.cp1.ca, forwarder("cp-2")), "worker", ada, codes.FailedPrecondition, `this is node cp-1, and the call that cp-2 passed on is for node "worker"`},
		{"by a server's certificate", c.cp1.dial(t, c.cp1.ca, serving), "", ada, codes.Unavailable, ""},
		{"of another CA", c.cp1.dial(t, newCA(t, "other"), forwarder("cp-2")), "", ada, codes.Unavailable, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ask(t, test.conn, test.node, test.sent...)
			if status.Code(err) != test.want || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %s with %q", err, test.want, test.says)
			}
			if err == nil && (got.Version != "ada until "+later || got.Hostname != "cp-1") {
				t.Errorf("machined was told %q", got.Version)
			}
		})
	}
	c.cp1.log.await(t, "client refused", "incompatible key usage", "claimed_name=cp-2")
	c.cp1.log.await(t, "client refused", "unknown authority", "claimed_name=cp-2")
	if calls := c.worker.machined.calls.Load(); calls != 0 {
		t.Errorf("%d calls reached the third node", calls)
	}
}

func TestIdentifyForwarded(t *testing.T) {
	ca := newCA(t, "os")
	chain := []*x509.Certificate{certificateOf(t, ca, forwarder("cp-2")), ca.Certificate()}
	now := time.Now()
	at := func(when time.Time) string { return when.UTC().Format(time.RFC3339) }
	said := func(user string, until string, roles ...string) metadata.MD {
		return metadata.MD{identity.MetadataUser: {user}, identity.MetadataUntil: {until}, identity.MetadataRole: roles}
	}
	later := at(now.Add(time.Minute))
	two := said("ada", later, identity.Admin)
	two[identity.MetadataUser] = []string{"ada", "eve"}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprint(i))
	}
	for _, test := range []struct {
		name string
		sent metadata.MD
		now  time.Time
		says string
	}{
		{"as it should be", said("ada", later, identity.Admin, "os:unheard-of"), now, ""},
		{"two users", two, now, "does not say for whom"},
		{"a component of Kubernetes", said("system:admin", later, identity.Admin), now, "begins with system:"},
		{"an endless name", said(strings.Repeat("a", 1000), later, identity.Admin), now, "too many"},
		{"a hundred roles", said("ada", later, many...), now, "too many"},
		{"an empty role", said("ada", later, ""), now, "is no role"},
		{"as a forwarder", said("ada", later, identity.Forwarder), now, "is no role"},
		{"expired", said("ada", at(now.Add(-time.Minute)), identity.Admin), now, "expired"},
		{"no time", said("ada", "tomorrow", identity.Admin), now, "until when"},
		{"after the CA's end", said("ada", at(now.Add(1000*time.Hour)), identity.Admin), now, "after the end of the CA"},
		{"by a certificate that expired since", said("ada", at(now.Add(50*time.Minute)), identity.Admin), now.Add(2 * time.Hour), "the certificate of cp-2, which passes calls on, expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := identifyAny(chain, test.sent, test.now)
			if test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("got %v, want an error with %q", err, test.says)
			}
			if test.says == "" && (err != nil || c.user != "ada" || !slices.Equal(c.roles, []string{identity.Admin, "os:unheard-of"}) || c.via != "cp-2" || at(c.until) != later) {
				t.Errorf("got %+v, %v", c, err)
			}
		})
	}
}

func TestTheOtherNodeMustProveItself(t *testing.T) {
	c := startCluster(t, nil)
	conn := c.cp1.admin(t)
	c.cp2.writeCertificates(t, newCA(t, "other"))
	c.worker.ip = "127.0.0.9" // a certificate of this cluster, but not of that address
	c.worker.writeCertificates(t, c.worker.ca)
	for node, says := range map[string]string{"cp-2": "unknown authority", "worker": "127.0.0.9"} {
		_, err := ask(t, conn, node)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "node "+node+" does not answer at ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %q", node, err, says)
		}
	}
	if calls := c.worker.machined.calls.Load() + c.cp2.machined.calls.Load(); calls != 0 {
		t.Errorf("%d calls reached nodes that proved nothing", calls)
	}
}

// A node that took another's address must not take its reboots.
func TestACallThatReachesTheWrongNodeIsRefused(t *testing.T) {
	c := startCluster(t, nil)
	c.nodes[2].Addresses = []string{"127.0.0.3"}
	_, err := machinepb.NewMachineServiceClient(c.cp1.admin(t)).Reboot(of(t, "worker"), &machinepb.RebootRequest{})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "this is node cp-2") {
		t.Errorf("got %v", err)
	}
	if calls := c.cp2.machined.calls.Load(); calls != 0 {
		t.Error("cp-2 does what the worker should do")
	}
}
