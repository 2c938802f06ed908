package etcd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// admin connects to the member's admin socket.
func (s *Service) admin() (etcd.EtcdServiceClient, func(), error) {
	connection, err := grpc.NewClient("unix:"+s.options.AdminSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to etcd's admin socket: %w", err)
	}
	return etcd.NewEtcdServiceClient(connection), func() { _ = connection.Close() }, nil
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
