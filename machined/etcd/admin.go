package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// ErrLastMember is why the only member of a cluster cannot leave it.
var ErrLastMember = errors.New("this node is the only member of its etcd cluster: the cluster's data is gone with it")

// leaveTime bounds a member's leave, in which it hands the leadership over.
const leaveTime = 15 * time.Second

// admin connects to the member's admin socket.
func (s *Service) admin() (etcd.EtcdServiceClient, func(), error) {
	connection, err := grpc.NewClient("unix:"+s.options.AdminSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to etcd's admin socket: %w", err)
	}
	return etcd.NewEtcdServiceClient(connection), func() { _ = connection.Close() }, nil
}

// Leave takes this node's member out of the cluster, for a node that is reset.
// It does nothing on a node that is no member. Force is for a leave that costs
// the others their quorum; ErrLastMember is overruled by nothing.
func (s *Service) Leave(ctx context.Context, force bool) error {
	s.mu.Lock()
	now, err := read(s.options.DataDir)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if now == removed || now == empty && s.Waiting() != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	client, closeClient, err := s.admin()
	if err != nil {
		return err
	}
	defer closeClient()
	known, err := client.Members(ctx, &etcd.MembersRequest{})
	if err != nil {
		return fmt.Errorf("ask etcd for its members: %s", status.Convert(err).Message())
	}
	if len(known.GetMembers()) == 1 {
		return ErrLastMember
	}
	if _, err := client.Leave(ctx, &etcd.LeaveRequest{Force: force}); err != nil {
		return fmt.Errorf("leave the etcd cluster: %s", status.Convert(err).Message())
	}
	return nil
}

// makeAdminFolder makes the folder of the admin socket. The member, which is no
// member of the group that may open the socket, cannot give it away: the
// folder's setgid bit does, and closes the folder to everyone else.
func makeAdminFolder(socket string, owner secretdir.Owner, group int) error {
	dir := filepath.Dir(socket)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make the folder above %s: %w", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the admin socket's folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the admin socket's folder: %w", err)
	}
	defer root.Close()
	// A change of owner takes the bit away: the mode comes last.
	if err := errors.Join(root.Chown(".", owner.UID, group), root.Chmod(".", os.ModeSetgid|0o750)); err != nil {
		return fmt.Errorf("give the admin socket's folder to its group: %w", err)
	}
	return nil
}
