package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/image"
)

// spread imports the archives on several nodes, one archive after the other. A
// node that failed gets no more of them.
func (archives *archives) spread(ctx context.Context, fan *fanout) error {
	if slices.Contains(archives.names, "-") && len(ways(fan.nodes)) > 1 {
		return usagef("standard input can be read once only: give a file, or fewer nodes, and those by name")
	}
	nodes, failed := fan.nodes, false
	for _, name := range archives.names {
		var mutex sync.Mutex
		var good []*askedNode
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(maxAsked)
		for _, some := range ways(nodes) {
			group.Go(func() error {
				done, err := archives.send(ctx, some, name)
				mutex.Lock()
				defer mutex.Unlock()
				good = append(good, done...)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return fmt.Errorf("import %s: %w", name, err)
		}
		failed = failed || len(good) < len(nodes)
		nodes = good
	}
	if failed {
		return errReported
	}
	return nil
}

// send makes one upload to nodes and returns those that have imported it. The
// others have had their line; an error is that of the upload itself.
func (archives *archives) send(ctx context.Context, nodes []*askedNode, name string) ([]*askedNode, error) {
	if !nodes[0].direct {
		return archives.spreadOne(ctx, nodes, name)
	}
	err := archives.importOn(ctx, nodes[0], name)
	if err == nil {
		return nodes, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	nodes[0].complain(fmt.Errorf("import %s: %w", name, err))
	return nil, nil
}

// spreadOne sends one archive to the endpoint, for nodes.
func (archives *archives) spreadOne(ctx context.Context, nodes []*askedNode, name string) ([]*askedNode, error) {
	reader, total, err := archives.open(name)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := nodes[0].through.Image.Spread(ctx)
	if err != nil {
		return nil, err
	}
	progress := archives.app.newProgress(name)
	defer progress.end()
	request := image.SpreadRequest{Pin: archives.pin}
	for _, node := range nodes {
		request.Nodes = append(request.Nodes, node.name)
	}
	_ = stream.Send(&request) // its error is what the answers end with
	answers := &spreadAnswers{archives: archives, name: name, progress: progress, open: slices.Clone(nodes), ended: make(chan struct{})}
	go answers.receive(stream)

	if err := upload(reader, total, progress, func(chunk []byte) error {
		return stream.Send(&image.SpreadRequest{Chunk: chunk})
	}); err != nil {
		return nil, err // the archive cannot be read; the call ends with cancel
	}
	_ = stream.CloseSend()
	progress.say("sent, being unpacked")
	<-answers.ended
	return answers.good, answers.err
}

// spreadAnswers shows the nodes' answers as they come.
type spreadAnswers struct {
	archives *archives
	name     string
	progress *progress
	// open are the nodes that have not answered; good those that have imported.
	open, good []*askedNode
	err        error
	ended      chan struct{}
}

func (answers *spreadAnswers) receive(stream grpc.BidiStreamingClient[image.SpreadRequest, image.SpreadResponse]) {
	defer close(answers.ended)
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			for _, node := range answers.open {
				answers.failed(node, codes.Internal, "the endpoint did not say what became of it")
			}
			return
		}
		if err == nil {
			err = answers.show(answer)
		}
		if err != nil {
			answers.err = err
			return
		}
	}
}

func (answers *spreadAnswers) show(answer *image.SpreadResponse) error {
	i := slices.IndexFunc(answers.open, func(node *askedNode) bool { return node.name == answer.GetNode() })
	if i < 0 {
		return fmt.Errorf("the endpoint answered for node %q, which it was not asked for", answer.GetNode())
	}
	node := answers.open[i]
	answers.open = slices.Delete(answers.open, i, i+1)
	answers.progress.end()
	if failure := answer.GetFailure(); failure != nil {
		answers.failed(node, codes.Code(failure.GetCode()), failure.GetMessage())
		return nil
	}
	answers.good = append(answers.good, node)
	return answers.archives.imported(node, &image.ImportResponse{Images: answer.GetImages()})
}

func (answers *spreadAnswers) failed(node *askedNode, code codes.Code, message string) {
	node.complain(fmt.Errorf("import %s: %w", answers.name, status.Error(code, message)))
}
