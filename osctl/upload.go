package main

import (
	"errors"
	"fmt"
	"io"
)

// chunkSize is how much of a file goes into one message, in bytes; the API
// takes at most 1 MiB.
const chunkSize = 512 << 10

// upload reads to the end and sends what it reads in chunks, which send must
// not keep. It ends early without an error when a chunk is not taken: why, the
// answer to the call says. A total of zero is unknown.
func upload(reader io.Reader, total int64, progress *progress, send func(chunk []byte) error) error {
	chunk := make([]byte, chunkSize)
	for sent := int64(0); ; {
		count, err := io.ReadFull(reader, chunk)
		if count > 0 {
			sent += int64(count)
			progress.sent(sent, total)
			if send(chunk[:count]) != nil {
				return nil
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
	}
}
