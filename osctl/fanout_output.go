package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// labelColours tell the lines of nodes apart; red is for errors.
var labelColours = []colour{"36", "35", "34", "32", "33"}

// print writes a table whose first column is the node, which is left out when
// there is one only.
func (fan *fanout) print(table *table) error {
	if !fan.labelled {
		for i, row := range table.rows {
			table.rows[i] = row[1:]
		}
	}
	fan.printing.Lock()
	defer fan.printing.Unlock()
	return fan.app.print(table)
}

// printAnswers prints answers as JSON or YAML: one node's as it is, several as a
// list whose items begin with the node's name.
func printAnswers[T proto.Message](fan *fanout, format string, answers []answer[T]) error {
	if !fan.labelled {
		return fan.app.printMessage(format, answers[0].value)
	}
	items := make([]json.RawMessage, len(answers))
	for i, one := range answers {
		text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(one.value)
		if err != nil {
			return fmt.Errorf("encode the answer of node %s: %w", one.node.name, err)
		}
		items[i] = withNode(one.node.name, text)
	}
	fan.printing.Lock()
	defer fan.printing.Unlock()
	return fan.app.printValue(format, items)
}

// printNames prints the names of what the nodes listed, one on a line.
func printNames[T any, E interface{ GetName() string }](answers []answer[T], list func(T) []E) error {
	for _, answer := range answers {
		for _, one := range list(answer.value) {
			if err := answer.node.line(one.GetName()); err != nil {
				return err
			}
		}
	}
	return nil
}

// sayOfEach shows answers that hold nothing but that the node will do it.
func sayOfEach[T any](text string) func([]answer[T]) error {
	return func(answers []answer[T]) error {
		for _, answer := range answers {
			if err := answer.node.line(text); err != nil {
				return err
			}
		}
		return nil
	}
}

// confirmAll asks before something is done to all nodes, if somebody can be
// asked. The question has a place for which they are.
func (fan *fanout) confirmAll(question string) error {
	if !slices.Contains(fan.app.nodes, everyNode) || !fan.app.live {
		return nil
	}
	return fan.app.confirm(question, fmt.Sprintf("all %d nodes (%s)", len(fan.nodes), nodeList(fan.nodes)))
}

// nodeList names nodes in a sentence.
func nodeList(nodes []*askedNode) string {
	names := make([]string, len(nodes))
	for i, node := range nodes {
		names[i] = node.name
	}
	return strings.Join(names, ", ")
}

// line prints one line of text, after the node's name if that is needed.
func (node *askedNode) line(text string) error {
	fan := node.fanout
	fan.printing.Lock()
	defer fan.printing.Unlock()
	_, err := io.WriteString(fan.app.stdout, node.label()+text+"\n")
	return err
}

// message prints a message of a stream as a line of JSON or a YAML document.
func (node *askedNode) message(format string, message proto.Message) error {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return node.document(format, text)
}

// document is message for what is JSON already.
func (node *askedNode) document(format string, text []byte) error {
	fan := node.fanout
	if fan.labelled {
		text = withNode(node.name, text)
	}
	fan.printing.Lock()
	defer fan.printing.Unlock()
	return fan.app.printDocument(format, text)
}

// complain prints the one line that a node's failure costs.
func (node *askedNode) complain(err error) {
	fan := node.fanout
	fan.printing.Lock()
	defer fan.printing.Unlock()
	fmt.Fprintln(fan.app.stderr, fan.app.paint(red, "node "+node.name+":"), node.sentence(err))
}

// sentence says what is wrong with a node that is named beside it.
func (node *askedNode) sentence(err error) string {
	if status.Code(err) == codes.DeadlineExceeded {
		return "did not answer in time: is it overloaded, or on its way down?"
	}
	// The endpoint names the node too.
	return strings.Replace(node.fanout.app.explain(err), "node "+node.name+" ", "", 1)
}

// label begins a node's lines, aligned with those of the others.
func (node *askedNode) label() string {
	if !node.fanout.labelled {
		return ""
	}
	width := 0
	for _, other := range node.fanout.nodes {
		width = max(width, utf8.RuneCountInString(other.name))
	}
	label := node.fanout.app.paint(labelColours[node.index%len(labelColours)], node.name+":")
	return label + strings.Repeat(" ", width-utf8.RuneCountInString(node.name)+1)
}

// withNode puts the node's name first into a JSON object.
func withNode(name string, object []byte) []byte {
	quoted, _ := json.Marshal(name) // a string: never fails
	inner := bytes.TrimSpace(object)[1:]
	separator := ","
	if bytes.HasPrefix(bytes.TrimSpace(inner), []byte("}")) {
		separator = ""
	}
	return fmt.Appendf(nil, `{"node":%s%s%s`, quoted, separator, inner)
}
