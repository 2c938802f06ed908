package main

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// frame is one message as it came over the wire, on its way through. Whoever
// sends it gives its buffers back.
type frame struct {
	data mem.BufferSlice
}

// frameCodec passes frames through undecoded, and everything else to the
// protobuf codec: the server answers some services itself.
type frameCodec struct{}

func (frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return f.data, nil
	}
	return encoding.GetCodecV2(proto.Name).Marshal(v)
}

func (frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		// gRPC drops its own reference as soon as this returns.
		data.Ref()
		f.data = data
		return nil
	}
	return encoding.GetCodecV2(proto.Name).Unmarshal(data, v)
}

// Name is the wire format's: to clients and backends a frame is protobuf.
func (frameCodec) Name() string { return proto.Name }
