package workloads

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

const (
	// chunkSize is how much of a log or of a program's output goes into one
	// message, in bytes.
	chunkSize = 32 << 10
	// defaultFollowed is how many pods one call follows the logs of if it does not say,
	// maxFollowed the most that it may say, and logsPerPod how many containers of each on
	// average: each takes a connection for as long as it is followed. Logs that are not
	// are read one after the other.
	defaultFollowed, maxFollowed, logsPerPod = 20, 100, 3
)

// logStream is the client's end of Logs.
type logStream = grpc.ServerStreamingServer[workloadpb.LogsResponse]

// Logs implements WorkloadService.
func (s *Server) Logs(request *workloadpb.LogsRequest, stream logStream) error {
	ctx := stream.Context()
	if request.GetMaxFollowed() > maxFollowed {
		return invalid("at most %d pods are followed at once, not %d", maxFollowed, request.GetMaxFollowed())
	}
	if request.GetSinceSeconds() > 0 && request.GetSinceTime() != nil {
		return invalid("since_seconds and since_time exclude each other")
	}
	session, err := s.session(ctx)
	if err != nil {
		return err
	}
	logs, err := session.logs(ctx, request)
	if err != nil {
		return err
	}
	var sending sync.Mutex
	send := func(part *workloadpb.LogsResponse) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(part)
	}
	read := func(ctx context.Context, log containerLog) error {
		copying := log.copyLines
		if len(logs) == 1 {
			copying = log.copy
		}
		err := copying(ctx, send)
		if err == nil || !request.GetIgnoreErrors() || ctx.Err() != nil {
			return err
		}
		return send(&workloadpb.LogsResponse{Pod: log.pod, Container: log.container, Error: status.Convert(err).Message()})
	}
	group, ctx := errgroup.WithContext(ctx)
	if !request.GetFollow() {
		group.SetLimit(1) // one after the other: whoever reads them wants each in one piece
	}
	for _, log := range logs {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return read(ctx, log)
		})
	}
	return group.Wait()
}

// mostFollowed is how many pods a call may follow.
func mostFollowed(request *workloadpb.LogsRequest) int {
	if asked := int(request.GetMaxFollowed()); asked > 0 {
		return asked
	}
	return defaultFollowed
}

// containerLog is one container's log.
type containerLog struct {
	pod, container string
	read           *rest.Request
}

// logs finds the logs that are asked for.
func (s *session) logs(ctx context.Context, request *workloadpb.LogsRequest) ([]containerLog, error) {
	pods, err := s.loggedPods(ctx, request)
	if err != nil {
		return nil, err
	}
	var logs []containerLog
	for _, found := range pods {
		containers, err := loggedContainers(&found, request)
		if err != nil {
			return nil, err
		}
		for _, container := range containers {
			logs = append(logs, containerLog{found.Name, container, s.logRequest(found.Name, container, request)})
		}
	}
	if most := logsPerPod * mostFollowed(request); request.GetFollow() && len(logs) > most {
		return nil, invalid("these are the logs of %d containers, and at most %d are followed at once: select less, name a container, or do not follow",
			len(logs), most)
	}
	return logs, nil
}

func (s *session) loggedPods(ctx context.Context, request *workloadpb.LogsRequest) ([]corev1.Pod, error) {
	namespace, name := request.GetNamespace(), request.GetPod()
	resource, of, isOther := strings.Cut(name, "/")
	limit := 0
	if request.GetFollow() {
		limit = mostFollowed(request) + 1 // to see that there are more
	}
	var pods []corev1.Pod
	var err error
	switch {
	case request.GetLabelSelector() != "" && name != "":
		return nil, invalid("a pod's name and labels exclude each other: give one of them")
	case request.GetLabelSelector() != "":
		pods, err = s.selectPods(ctx, namespace, request.GetLabelSelector(), limit)
		if err == nil && len(pods) == 0 {
			err = status.Errorf(codes.NotFound, "no pod in namespace %s has the labels %s", orDefault(namespace), request.GetLabelSelector())
		}
	case request.GetAllPods() && isOther && !isPods(resource):
		pods, err = s.podsOf(ctx, namespace, resource, of, limit)
	default:
		found, err := s.onePod(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		return []corev1.Pod{*found}, nil
	}
	if most := mostFollowed(request); request.GetFollow() && len(pods) > most {
		return nil, invalid("these are more than %d pods, and at most so many are followed at once: select less, ask for more (--max-log-requests), or do not follow", most)
	}
	return pods, err
}

func loggedContainers(pod *corev1.Pod, request *workloadpb.LogsRequest) ([]string, error) {
	if !request.GetAllContainers() {
		container, err := chooseContainer(pod, request.GetContainer())
		return []string{container}, err
	}
	if request.GetContainer() != "" {
		return nil, invalid("all containers and the container %q exclude each other: give one of them", request.GetContainer())
	}
	var names []string
	for _, c := range pod.Spec.InitContainers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		names = append(names, c.Name)
	}
	return names, nil
}

func (s *session) logRequest(name, container string, request *workloadpb.LogsRequest) *rest.Request {
	read := pod(s.streams.Get(), request.GetNamespace(), name, "log").Param("container", container)
	for name, wanted := range map[string]bool{
		"follow":     request.GetFollow(),
		"previous":   request.GetPrevious(),
		"timestamps": request.GetTimestamps(),
	} {
		if wanted {
			read.Param(name, "true")
		}
	}
	if request.Tail != nil && request.GetTail() >= 0 {
		read.Param("tailLines", strconv.FormatInt(request.GetTail(), 10))
	}
	for name, number := range map[string]int64{
		"sinceSeconds": request.GetSinceSeconds(),
		"limitBytes":   request.GetLimitBytes(),
	} {
		if number > 0 {
			read.Param(name, strconv.FormatInt(number, 10))
		}
	}
	if since := request.GetSinceTime(); since != nil {
		read.Param("sinceTime", since.AsTime().Format(time.RFC3339))
	}
	return read
}

// copy sends what is there as soon as it is there; gRPC's flow control makes a
// slow client slow the reading down.
func (log containerLog) copy(ctx context.Context, send func(*workloadpb.LogsResponse) error) error {
	body, err := log.read.Stream(ctx)
	if err != nil {
		return statusOf(err)
	}
	defer body.Close()
	buffer := make([]byte, chunkSize)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if err := send(log.part(buffer[:n])); err != nil {
				return err
			}
		}
		if err != nil {
			return log.ended(ctx, err)
		}
	}
}

// copyLines is copy for one of several logs: it cuts at the ends of lines, so
// that no two logs share one. A line that is longer than a message is cut.
func (log containerLog) copyLines(ctx context.Context, send func(*workloadpb.LogsResponse) error) error {
	body, err := log.read.Stream(ctx)
	if err != nil {
		return statusOf(err)
	}
	defer body.Close()
	buffer := make([]byte, 0, chunkSize)
	for {
		n, err := body.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		whole := bytes.LastIndexByte(buffer, '\n') + 1
		if whole == 0 && (len(buffer) == cap(buffer) || err != nil && len(buffer) > 0) {
			whole = len(buffer)
		}
		if whole > 0 {
			text := buffer[:whole]
			if text[whole-1] != '\n' {
				text = append(bytes.Clone(text), '\n')
			}
			if err := send(log.part(text)); err != nil {
				return err
			}
			buffer = buffer[:copy(buffer, buffer[whole:])]
		}
		if err != nil && len(buffer) == 0 {
			return log.ended(ctx, err)
		}
	}
}

func (log containerLog) part(data []byte) *workloadpb.LogsResponse {
	return &workloadpb.LogsResponse{Data: data, Pod: log.pod, Container: log.container}
}

func (log containerLog) ended(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case ctx.Err() != nil:
		return statusOf(ctx.Err())
	}
	return statusOf(err)
}
