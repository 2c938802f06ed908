package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/keelson-os/keelson/machined/etcd/mark"
	"github.com/keelson-os/keelson/pkg/api/etcd"
)

// maxAnswer bounds what is read of a health answer, in bytes.
const maxAnswer = 4 << 10

// probe tells the supervisor whether the process works. To become healthy it
// must answer a read that needs a quorum; later only a local one, because
// restarting a member does not bring a lost quorum back.
func (s *Service) probe(ctx context.Context) error {
	if s.answered.Load() {
		return s.get(ctx, "/livez")
	}
	if err := s.get(ctx, "/readyz"); err != nil {
		return err
	}
	// From here on clients may write, so from here on the data must be kept.
	// What depends on etcd starts only when this has returned nil.
	s.mu.Lock()
	err := errors.Join(clearPending(s.options.DataDir), mark.Clear(s.options.DataDir, joiningMark))
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.answered.Store(true)
	return nil
}

// Check tells whether the cluster's store can be read and written through this
// member; its error says what is wrong and what to do.
func (s *Service) Check(ctx context.Context) error {
	if waits := s.Waiting(); waits != "" {
		return fmt.Errorf("this node is no member: %s", waits)
	}
	// The member says more than its health does, and says it without a quorum.
	if problems := s.problems(ctx); len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	// Other than /readyz this counts alarms too: with a full database etcd reads
	// on, but takes no writes.
	return s.get(ctx, "/health")
}

// problems are what the member itself says is wrong. That it does not answer is
// the caller's to find out.
func (s *Service) problems(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	client, closeClient, err := s.admin()
	if err != nil {
		return nil
	}
	defer closeClient()
	status, err := client.Status(ctx, &etcd.StatusRequest{})
	if err != nil {
		return nil
	}
	return status.GetProblems()
}

// get asks etcd's client address on the loopback for a health path.
func (s *Service) get(ctx context.Context, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, urls(s.options.ClientPort, loopback)+path, nil)
	if err != nil {
		return err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask etcd for its health: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read etcd's health: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd says %s: %s", response.Status, strings.Join(strings.Fields(string(text)), " "))
	}
	return nil
}
