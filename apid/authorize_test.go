package main

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	machinepb "github.com/keelson-os/keelson/pkg/api/machine"
	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/identity"
)

// describedMethods are all methods that clients could know of: those of
// Keelson's API, and those of gRPC's own services that the server answers.
func describedMethods(t *testing.T, n *testNode) []string {
	t.Helper()
	found := make(map[string]bool)
	add := func(service protoreflect.ServiceDescriptor) {
		for i := range service.Methods().Len() {
			found["/"+string(service.FullName())+"/"+string(service.Methods().Get(i).Name())] = true
		}
	}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(file.Package()), "keelson.") {
			for i := range file.Services().Len() {
				add(file.Services().Get(i))
			}
		}
		return true
	})
	for name := range n.server.grpc.GetServiceInfo() {
		service, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			t.Fatalf("service %s: %v", name, err)
		}
		add(service.(protoreflect.ServiceDescriptor))
	}
	return slices.Sorted(maps.Keys(found))
}

func TestTheTableNamesEveryMethodAndNoOther(t *testing.T) {
	described := describedMethods(t, startNode(t, nil))
	for _, method := range described {
		if len(methods[method]) == 0 {
			t.Errorf("%s is not in the table: say who may call it", method)
		}
	}
	for method := range methods {
		if !slices.Contains(described, method) {
			t.Errorf("the table names %s, which does not exist", method)
		}
	}
	for method := range maintenanceMethods {
		if !slices.Contains(methods[method], paired.roles[0]) {
			t.Errorf("%s is for maintenance, but the role that machined is told may not call it", method)
		}
	}
}

// A noun of the API that nothing here imports would be missing from the
// descriptors, and from the test above.
func TestEveryNounOfTheAPIIsLinkedIn(t *testing.T) {
	nouns, err := os.ReadDir("../pkg/api")
	if err != nil {
		t.Fatal(err)
	}
	for _, noun := range nouns {
		file := "pkg/api/" + noun.Name() + "/" + noun.Name() + ".proto"
		if _, err := protoregistry.GlobalFiles.FindFileByPath(file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestAdminsMayDoEverythingAndReadersChangeNothing(t *testing.T) {
	changing := []string{"Start", "Stop", "Restart", "Reboot", "Shutdown", "Reset", "Bootstrap", "Recover", "Leave", "ForfeitLeadership", "Defragment", "Alarms", "Snapshot", "Campaign", "Join", "Import", "Spread", "Pin", "Remove", "Apply", "Delete", "Exec", "Upgrade", "Rollback", "Install"}
	for method, roles := range methods {
		if !slices.Contains(roles, identity.Admin) {
			t.Errorf("%s is not for admins", method)
		}
		name := method[strings.LastIndex(method, "/")+1:]
		if slices.Contains(changing, name) == slices.Contains(roles, identity.Reader) {
			t.Errorf("%s for readers: %v", method, roles)
		}
	}
}

func TestAuthorize(t *testing.T) {
	for _, test := range []struct {
		name   string
		roles  []string
		method string
		want   codes.Code
		says   string
	}{
		{"reader reads", []string{identity.Reader}, machinepb.MachineService_Status_FullMethodName, codes.OK, ""},
		{"reader reboots", []string{identity.Reader}, machinepb.MachineService_Reboot_FullMethodName, codes.PermissionDenied, "needs os:operator or os:admin"},
		{"one role of several", []string{"os:unheard-of", identity.Operator}, workloadpb.WorkloadService_Apply_FullMethodName, codes.OK, ""},
		{"operator bootstraps", []string{identity.Operator}, "/keelson.cluster.v1.ClusterService/Bootstrap", codes.PermissionDenied, "needs os:admin"},
		{"backup reads", []string{identity.EtcdBackup}, machinepb.MachineService_Status_FullMethodName, codes.PermissionDenied, identity.EtcdBackup},
		{"backup asks the version", []string{identity.EtcdBackup}, machinepb.MachineService_Version_FullMethodName, codes.OK, ""},
		{"no role", nil, machinepb.MachineService_Version_FullMethodName, codes.PermissionDenied, "has no role"},
		{"another's role", []string{"system:masters"}, machinepb.MachineService_Version_FullMethodName, codes.PermissionDenied, "system:masters"},
		{"unknown method", []string{identity.Admin}, "/keelson.machine.v1.MachineService/Explode", codes.Unimplemented, "no method"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := authorize(methods, caller{user: "u", roles: test.roles}, test.method)
			if status.Code(err) != test.want || !strings.Contains(status.Convert(err).Message(), test.says) {
				t.Errorf("got %v, want %s with %q", err, test.want, test.says)
			}
		})
	}
}

func TestIdentify(t *testing.T) {
	ca := newCA(t, "os")
	n := &testNode{ca: ca}
	for _, test := range []struct{ name, says string }{
		{"ada", ""},
		{"ada@example.org", ""},
		{"", "empty"},
		{"system:kube-controller-manager", "begins with system:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cert := certificateOf(t, ca, n.client(test.name, identity.Reader))
			c, err := identify(cert, time.Now())
			if test.says == "" && (err != nil || c.user != test.name || !slices.Equal(c.roles, []string{identity.Reader})) {
				t.Errorf("got %v, %v", c, err)
			}
			if test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("got %v, want an error with %q", err, test.says)
			}
		})
	}
	if _, err := identify(certificateOf(t, ca, n.client("ada", identity.Reader)), time.Now().Add(2*time.Hour)); err == nil {
		t.Error("a certificate that expired since the handshake is accepted")
	}
}

func TestStreamsEndWithTheCertificate(t *testing.T) {
	for _, test := range []struct {
		name  string
		until time.Duration
		want  codes.Code
	}{
		{"expired during the call", -time.Second, codes.Unauthenticated},
		{"valid", time.Hour, codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := entry{admit: func(context.Context, string) (caller, error) {
				return caller{user: "ada", until: time.Now().Add(test.until)}, nil
			}}
			err := e.stream(nil, &admittedStream{ctx: t.Context()}, &grpc.StreamServerInfo{}, func(_ any, stream grpc.ServerStream) error {
				return stream.Context().Err()
			})
			if status.Code(err) != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
