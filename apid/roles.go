package main

import (
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	clusterpb "github.com/keelson-os/keelson/pkg/api/cluster"
	etcdpb "github.com/keelson-os/keelson/pkg/api/etcd"
	imagepb "github.com/keelson-os/keelson/pkg/api/image"
	installpb "github.com/keelson-os/keelson/pkg/api/install"
	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	logpb "github.com/keelson-os/keelson/pkg/api/log"
	machinepb "github.com/keelson-os/keelson/pkg/api/machine"
	servicepb "github.com/keelson-os/keelson/pkg/api/service"
	upgradepb "github.com/keelson-os/keelson/pkg/api/upgrade"
	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/identity"
)

// Who may call a method: whoever has one of the roles.
var (
	admins    = []string{identity.Admin}
	backups   = []string{identity.EtcdBackup, identity.Operator, identity.Admin}
	operators = []string{identity.Operator, identity.Admin}
	readers   = []string{identity.Reader, identity.Operator, identity.Admin}
	anyone    = []string{identity.EtcdBackup, identity.Reader, identity.Operator, identity.Admin}
)

// methods is the authorization of the whole API: every method, and the roles
// that may call it. A method that is not here does not exist for clients.
//
//   - Reading is for readers. That includes logs: a service that wrote secrets
//     to its log would be at fault, not the reader.
//   - Kubeconfig is for readers too: the certificate in it carries the caller's
//     own name and roles and expires with the caller's own, so it opens nothing
//     that the caller could not reach through the workload service.
//   - What operators do in a working day, and can be undone, is for operators:
//     services, reboots, images, workloads. Exec is among it because whoever may
//     apply a Deployment may run any program anyway.
//   - Bootstrap decides which node's etcd is the cluster's. It is done once, and
//     a mistake loses data: admins only.
//   - Workload methods are checked twice. The roles here keep callers out early;
//     what of Kubernetes they may touch is decided by its own RBAC, for the
//     groups that impersonate gives them.
//   - So are Recover and Reset, and what changes etcd's membership.
//   - os:etcd:backup is for machines that fetch snapshots. It can tell what it
//     talks to, and take snapshots, nothing else. A snapshot holds everything but
//     what is encrypted at rest: it is not for readers.
//   - Join has a listener of its own, which asks for the token instead of a
//     certificate. With a certificate it is for admins.
var methods = map[string][]string{
	machinepb.MachineService_Version_FullMethodName:  anyone,
	machinepb.MachineService_Status_FullMethodName:   readers,
	machinepb.MachineService_Stats_FullMethodName:    readers,
	machinepb.MachineService_Events_FullMethodName:   readers,
	machinepb.MachineService_Reboot_FullMethodName:   operators,
	machinepb.MachineService_Shutdown_FullMethodName: operators,
	machinepb.MachineService_Reset_FullMethodName:    admins,

	servicepb.ServiceService_List_FullMethodName:    readers,
	servicepb.ServiceService_Logs_FullMethodName:    readers,
	servicepb.ServiceService_Start_FullMethodName:   operators,
	servicepb.ServiceService_Stop_FullMethodName:    operators,
	servicepb.ServiceService_Restart_FullMethodName: operators,

	logpb.LogService_Kernel_FullMethodName: readers,

	clusterpb.ClusterService_Health_FullMethodName:     readers,
	clusterpb.ClusterService_Kubeconfig_FullMethodName: readers,
	clusterpb.ClusterService_Nodes_FullMethodName:      readers,
	clusterpb.ClusterService_Bootstrap_FullMethodName:  admins,
	clusterpb.ClusterService_Recover_FullMethodName:    admins,

	etcdpb.EtcdService_Members_FullMethodName:           readers,
	etcdpb.EtcdService_Status_FullMethodName:            readers,
	etcdpb.EtcdService_Snapshots_FullMethodName:         readers,
	etcdpb.EtcdService_Snapshot_FullMethodName:          backups,
	etcdpb.EtcdService_Alarms_FullMethodName:            operators,
	etcdpb.EtcdService_Defragment_FullMethodName:        operators,
	etcdpb.EtcdService_ForfeitLeadership_FullMethodName: operators,
	etcdpb.EtcdService_Remove_FullMethodName:            admins,
	etcdpb.EtcdService_Leave_FullMethodName:             admins,
	etcdpb.EtcdService_Campaign_FullMethodName:          admins,

	joinpb.JoinService_Join_FullMethodName: admins,

	imagepb.ImageService_List_FullMethodName:   readers,
	imagepb.ImageService_Import_FullMethodName: operators,
	imagepb.ImageService_Spread_FullMethodName: operators,
	imagepb.ImageService_Pin_FullMethodName:    operators,
	imagepb.ImageService_Remove_FullMethodName: operators,

	installpb.InstallService_Disks_FullMethodName:   readers,
	installpb.InstallService_Install_FullMethodName: admins,

	// An image is everything that runs on the node.
	upgradepb.UpgradeService_Upgrade_FullMethodName:  admins,
	upgradepb.UpgradeService_Rollback_FullMethodName: admins,
	upgradepb.UpgradeService_Slots_FullMethodName:    readers,

	workloadpb.WorkloadService_Get_FullMethodName:    readers,
	workloadpb.WorkloadService_Watch_FullMethodName:  readers,
	workloadpb.WorkloadService_Logs_FullMethodName:   readers,
	workloadpb.WorkloadService_Apply_FullMethodName:  operators,
	workloadpb.WorkloadService_Delete_FullMethodName: operators,
	workloadpb.WorkloadService_Exec_FullMethodName:   operators,
	// A way to Kubernetes, where RBAC tells what a reader may do there.
	workloadpb.WorkloadService_Kubernetes_FullMethodName: readers,

	healthpb.Health_Check_FullMethodName: readers,
	healthpb.Health_List_FullMethodName:  readers,
	healthpb.Health_Watch_FullMethodName: readers,

	reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName: readers,
}

// maintenanceMethods are what a node without config answers to whoever holds
// its pairing code: enough to see what is wrong and to try again.
var maintenanceMethods = map[string]bool{
	machinepb.MachineService_Version_FullMethodName:  true,
	machinepb.MachineService_Status_FullMethodName:   true,
	machinepb.MachineService_Events_FullMethodName:   true,
	machinepb.MachineService_Reboot_FullMethodName:   true,
	machinepb.MachineService_Shutdown_FullMethodName: true,
	logpb.LogService_Kernel_FullMethodName:           true,
	servicepb.ServiceService_List_FullMethodName:     true,
	servicepb.ServiceService_Logs_FullMethodName:     true,
	installpb.InstallService_Disks_FullMethodName:    true,
	installpb.InstallService_Install_FullMethodName:  true,
}
