package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// qmpTimeout bounds one command, from dialling to its answer.
const qmpTimeout = 10 * time.Second

// qmpMessage is anything QEMU says: a greeting, an event or a command's
// answer (QEMU's docs/interop/qmp-spec).
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	Event    string          `json:"event"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

// Execute runs a QMP command without arguments on the machine that listens on
// socket, and decodes its answer into result unless that is nil.
func Execute(ctx context.Context, socket, command string, result any) error {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	answer, err := execute(ctx, socket, command)
	if err != nil {
		return fmt.Errorf("QMP command %s: %w", command, err)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("decode answer of QMP command %s: %w", command, err)
	}
	return nil
}

// execute opens a session of its own for the command: QEMU serves one session
// at a time and nobody here needs to keep one.
func execute(ctx context.Context, socket, command string) (json.RawMessage, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	var greeting qmpMessage
	if err := in.Decode(&greeting); err != nil {
		return nil, fmt.Errorf("read greeting: %w", err)
	}
	if greeting.Greeting == nil {
		return nil, fmt.Errorf("%s does not speak QMP", socket)
	}
	var answer json.RawMessage
	for _, name := range []string{"qmp_capabilities", command} {
		if err := out.Encode(map[string]string{"execute": name}); err != nil {
			return nil, fmt.Errorf("send: %w", err)
		}
		if answer, err = readAnswer(in); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// readAnswer skips events up to the next answer.
func readAnswer(in *json.Decoder) (json.RawMessage, error) {
	for {
		var m qmpMessage
		if err := in.Decode(&m); err != nil {
			return nil, fmt.Errorf("read answer: %w", err)
		}
		switch {
		case m.Error != nil:
			return nil, fmt.Errorf("refused: %s", m.Error.Desc)
		case m.Event == "":
			return m.Return, nil
		}
	}
}

// RunState asks a machine for its state in QEMU's words: "running", "paused",
// "shutdown" and others (QAPI type RunState).
func RunState(ctx context.Context, socket string) (string, error) {
	var status struct {
		Status string `json:"status"`
	}
	err := Execute(ctx, socket, "query-status", &status)
	return status.Status, err
}
