package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// actAsSuite makes this test's program behave as e2e.test does.
const actAsSuite = "KEELSON_ACT_AS_SUITE"

func TestMain(m *testing.M) {
	if os.Getenv(actAsSuite) != "" && len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "--provider") {
		os.Exit(actSuite(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// actSuite does to each spec what its name says, posts progress and writes a
// JUnit report in the way of e2e.test.
func actSuite(args []string) int {
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, syscall.SIGINT)
	var specs []string
	flags := flag.NewFlagSet("e2e.test", flag.ExitOnError)
	progress := flags.String("progress-report-url", "", "")
	dir := flags.String("report-dir", "", "")
	for _, ignored := range []string{"provider", "kubeconfig", "kubectl-path", "e2e-output-dir", "ginkgo.timeout"} {
		flags.String(ignored, "", "")
	}
	flags.Bool("disable-log-dump", false, "")
	flags.Bool("ginkgo.no-color", false, "")
	flags.Bool("ginkgo.silence-skips", false, "")
	flags.Func("ginkgo.focus", "", func(focus string) error {
		specs = append(specs, strings.ReplaceAll(strings.Trim(focus, " $"), `\`, ""))
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return 2
	}
	post := func(message string) {
		body, _ := json.Marshal(map[string]string{"msg": message})
		if response, err := http.Post(*progress, "application/json", strings.NewReader(string(body))); err == nil {
			_ = response.Body.Close()
		}
	}
	post("Test Suite starting")
	junit, over := "", false
	for _, spec := range specs {
		status, inside := "passed", ""
		switch {
		case spec == "setup-fails":
			junit += `<testcase name="[SynchronizedBeforeSuite]" status="failed" time="1"><failure message="">[FAILED] no cluster</failure></testcase>`
			status, inside = "skipped", `<skipped message="skipped"></skipped>`
		case over:
			status, inside = "skipped", `<skipped message="skipped"></skipped>`
		case strings.HasPrefix(spec, "pass"):
			post("PASSED " + spec)
		case strings.HasPrefix(spec, "fail"):
			status, inside = "failed", "<failure message=\"\">no luck\nIn [It] at: here</failure>"
			post("FAILED " + spec)
		case strings.HasPrefix(spec, "skip"):
			status, inside = "skipped", `<skipped message="skipped - needs two nodes"></skipped>`
		case strings.HasPrefix(spec, "die"):
			return 2
		case strings.HasPrefix(spec, "hang"):
			<-interrupt
			over, status, inside = true, "interrupted", `<error message="">by the user</error>`
		}
		junit += fmt.Sprintf(`<testcase name="[It] %s" status="%s" time="1.5">%s</testcase>`, spec, status, inside)
	}
	if err := os.WriteFile(filepath.Join(*dir, "junit_01.xml"), []byte("<testsuites><testsuite>"+junit+"</testsuite></testsuites>"), 0o600); err != nil {
		return 2
	}
	return 0
}
