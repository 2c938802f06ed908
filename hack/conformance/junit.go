package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// maxMessage is how much of a failure the journal keeps; the process's log has
// all of it.
const maxMessage = 400

// junitCase is a test case of the suite's JUnit report, which has one for each
// of the suite's specs, run or not.
type junitCase struct {
	Name    string  `xml:"name,attr"`
	Status  string  `xml:"status,attr"` // ginkgo's SpecState
	Seconds float64 `xml:"time,attr"`
	Skipped *struct {
		Message string `xml:"message,attr"`
	} `xml:"skipped"`
	Failure *junitText `xml:"failure"`
	Error   *junitText `xml:"error"`
}

type junitText struct {
	Text string `xml:",chardata"`
}

// report is what a JUnit report says of the specs that ran.
type report struct {
	results map[string]result
	// setup is why the suite's own preparations failed, "" if they did not.
	setup string
}

// readReport reads a JUnit report one case at a time: it has thousands.
func readReport(from io.Reader) (report, error) {
	found := report{results: map[string]result{}}
	decoder := xml.NewDecoder(from)
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return found, fmt.Errorf("read the suite's JUnit report: %w", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "testcase" {
			continue
		}
		var c junitCase
		if err := decoder.DecodeElement(&c, &start); err != nil {
			return found, fmt.Errorf("read the suite's JUnit report: %w", err)
		}
		found.add(c)
	}
}

func (r *report) add(c junitCase) {
	spec, isSpec := strings.CutPrefix(c.Name, "[It] ")
	if !isSpec {
		if c.Status != "passed" && strings.Contains(c.Name, "BeforeSuite") {
			r.setup = c.message()
		}
		return
	}
	one := result{Spec: spec, Seconds: c.Seconds, Message: c.message()}
	switch c.Status {
	case "passed":
		one.State = passed
	case "failed", "panicked", "timedout", "aborted":
		one.State = failed
	case "interrupted":
		return // by this program, which knows why
	default:
		// Without a reason it was not asked for.
		if one.Message == "" {
			return
		}
		one.State = skipped
	}
	r.results[spec] = one
}

// message is why a case failed or was skipped.
func (c junitCase) message() string {
	switch {
	case c.Failure != nil:
		return summarize(c.Failure.Text)
	case c.Error != nil:
		return summarize(c.Error.Text)
	case c.Skipped != nil:
		reason, _ := strings.CutPrefix(c.Skipped.Message, "skipped - ")
		if reason == c.Skipped.Message {
			return "" // "skipped" alone
		}
		return summarize(reason)
	}
	return ""
}

// summarize makes one line of the beginning of a failure's text: the message,
// without the stack that follows it.
func summarize(text string) string {
	text, _, _ = strings.Cut(text, "\nFull Stack Trace")
	text, _, _ = strings.Cut(text, "\nIn [")
	line := strings.Join(strings.Fields(text), " ")
	if len(line) > maxMessage {
		line = strings.ToValidUTF8(line[:maxMessage], "") + "…"
	}
	return line
}
