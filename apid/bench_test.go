package main

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	imagepb "github.com/keelson-os/keelson/pkg/api/image"
	machinepb "github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/identity"
)

// BenchmarkUnary compares a call through apid to machined with the same call
// to a bare gRPC server that has the same TLS and the same handler.
func BenchmarkUnary(b *testing.B) {
	n := startNode(b, nil)
	n.machined.version = nil
	b.Run("apid", func(b *testing.B) { benchmarkVersion(b, n.admin(b)) })

	pair, err := tls.LoadX509KeyPair(n.options.cert, n.options.key)
	if err != nil {
		b.Fatal(err)
	}
	certs, err := loadCertificates(n.options, nil)
	if err != nil {
		b.Fatal(err)
	}
	bare := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: certs.current.ClientCAs,
	})))
	machinepb.RegisterMachineServiceServer(bare, n.machined)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = bare.Serve(listener)
	}()
	b.Cleanup(func() { bare.Stop(); <-done })
	n.address = listener.Addr().String()
	b.Run("bare", func(b *testing.B) { benchmarkVersion(b, n.admin(b)) })
}

// BenchmarkForwarded compares a call that another node answers with the same call
// made to that node.
func BenchmarkForwarded(b *testing.B) {
	c := startCluster(b, nil)
	c.cp2.machined.version = nil
	b.Run("direct", func(b *testing.B) { benchmarkVersion(b, c.cp2.admin(b)) })
	b.Run("forwarded", func(b *testing.B) { benchmarkVersionOf(b, c.cp1.admin(b), "cp-2") })
}

func benchmarkVersion(b *testing.B, conn *grpc.ClientConn) { benchmarkVersionOf(b, conn, "") }

func benchmarkVersionOf(b *testing.B, conn *grpc.ClientConn, node string) {
	client := machinepb.NewMachineServiceClient(conn)
	ctx := b.Context()
	if node != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, identity.MetadataNode, node)
	}
	if _, err := client.Version(ctx, &machinepb.VersionRequest{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.Version(ctx, &machinepb.VersionRequest{}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkSpread compares one archive for three nodes with an upload to each,
// through the same endpoint; bytes are those of the archive.
func BenchmarkSpread(b *testing.B) {
	const size = 128 << 20
	nodes := []string{"cp-1", "cp-2", "worker"}
	c := startCluster(b, nil)
	client := imagepb.NewImageServiceClient(c.cp1.admin(b))
	piece := make([]byte, 512<<10)
	b.Run("once", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			stream, err := client.Spread(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			_ = stream.Send(&imagepb.SpreadRequest{Nodes: nodes})
			for range size / len(piece) {
				_ = stream.Send(&imagepb.SpreadRequest{Chunk: piece})
			}
			_ = stream.CloseSend()
			answers, err := answersOf(stream)
			for _, node := range nodes {
				if images := answers[node].GetImages(); err != nil || len(images) != 1 || images[0].GetSize() != size {
					b.Fatalf("%s: %v, %v", node, answers[node], err)
				}
			}
		}
	})
	b.Run("to each", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			var uploads sync.WaitGroup
			for _, node := range nodes {
				uploads.Go(func() {
					stream, err := client.Import(metadata.AppendToOutgoingContext(b.Context(), identity.MetadataNode, node))
					if err != nil {
						b.Error(err)
						return
					}
					for range size / len(piece) {
						_ = stream.Send(&imagepb.ImportRequest{Chunk: piece})
					}
					if _, err := stream.CloseAndRecv(); err != nil {
						b.Error(err)
					}
				})
			}
			uploads.Wait()
		}
	})
}
