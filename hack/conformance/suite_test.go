package main

import (
	"flag"
	"fmt"
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

// actSuite does to the spec what its name says and writes a JUnit report in the
// way of e2e.test.
func actSuite(args []string) int {
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, syscall.SIGINT)
	flags := flag.NewFlagSet("e2e.test", flag.ExitOnError)
	dir := flags.String("report-dir", "", "")
	focus := flags.String("ginkgo.focus", "", "")
	for _, ignored := range []string{"provider", "kubeconfig", "kubectl-path", "e2e-output-dir", "ginkgo.timeout", "node-schedulable-timeout"} {
		flags.String(ignored, "", "")
	}
	for _, ignored := range []string{"disable-log-dump", "ginkgo.v", "ginkgo.no-color", "ginkgo.silence-skips"} {
		flags.Bool(ignored, false, "")
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	spec := strings.ReplaceAll(strings.Trim(*focus, " $"), `\`, "")
	fmt.Println("running", spec)
	setup, status, inside := "passed", "passed", ""
	switch {
	case strings.HasPrefix(spec, "setup-fails"):
		setup, status, inside = "failed", "skipped", `<skipped message="skipped"></skipped>`
	case strings.HasPrefix(spec, "fail"):
		status, inside = "failed", "<failure message=\"\">no luck\nIn [It] at: here</failure>"
	case strings.HasPrefix(spec, "skip"):
		status, inside = "skipped", `<skipped message="skipped - needs two nodes"></skipped>`
	case strings.HasPrefix(spec, "die"):
		return 2
	case strings.HasPrefix(spec, "hang"):
		<-interrupt
		status, inside = "interrupted", `<error message="">by the user</error>`
	}
	junit := fmt.Sprintf(`<testsuites><testsuite>
<testcase name="[SynchronizedBeforeSuite]" status=%q time="0.1"><failure message="">[FAILED] no cluster</failure></testcase>
<testcase name="[It] %s" status=%q time="1.5">%s</testcase>
<testcase name="[It] another" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
</testsuite></testsuites>`, setup, spec, status, inside)
	if err := os.WriteFile(filepath.Join(*dir, "junit_01.xml"), []byte(junit), 0o600); err != nil {
		return 2
	}
	return 0
}
