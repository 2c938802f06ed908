package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// endGrace is how long the suite may clean up after it was interrupted. It
// deletes namespaces, which takes as long as their pods do to end.
const endGrace = 3 * time.Minute

// Why an attempt was ended early.
var (
	errTooLong = errors.New("the spec did not end in time")
	errBroken  = errors.New("the suite did not run the spec")
)

// attempt is one spec in a process of the suite of its own. The suite starts in a
// second or two; in return no spec can take another one's result along.
type attempt struct {
	spec    string
	dir     string // its log and report
	suite   suite
	config  string // kubeconfig
	timeout time.Duration
}

// run runs the spec. The error is errBroken when the suite told nothing about it,
// or why ctx ended before it did; then there is no result.
func (a *attempt) run(ctx context.Context) (result, error) {
	log, err := os.Create(filepath.Join(a.dir, "log"))
	if err != nil {
		return result{}, err
	}
	defer log.Close()
	cmd := exec.Command(a.suite.binary,
		"--provider=skeleton",
		"--kubeconfig="+a.config,
		"--kubectl-path="+a.suite.kubectl,
		"--report-dir="+a.dir,
		"--e2e-output-dir="+a.dir,
		"--disable-log-dump",
		// Of the cluster, before the spec: half an hour is the suite's own patience.
		"--node-schedulable-timeout=5m",
		"--ginkgo.v", "--ginkgo.no-color", "--ginkgo.silence-skips",
		"--ginkgo.timeout=240h", // this program has its own limit
		// Ginkgo puts the suite's description in front of the names.
		"--ginkgo.focus= "+regexp.QuoteMeta(a.spec)+"$")
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "KUBE_TEST_REPO_LIST="+a.suite.repositories)
	cmd.Stdout, cmd.Stderr = log, log
	// In a group of its own: a terminal's interrupt reaches this program alone,
	// which passes it on once; a second one would keep the suite from cleaning up.
	// When this program is killed, the suite goes on to its spec's end, and cleans
	// up then. (Pdeathsig sends one signal for each thread of this program.)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return result{}, fmt.Errorf("start the suite: %w", err)
	}
	exit, cause := a.wait(ctx, cmd)
	// What a spec left running, such as a kubectl, does not outlive it.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return a.judge(exit, cause)
}

// wait waits for the suite's end. It interrupts it when ctx ends or the spec does
// not, and kills it when that does not help.
func (a *attempt) wait(ctx context.Context, cmd *exec.Cmd) (exit, cause error) {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	limit := time.NewTimer(a.timeout)
	defer limit.Stop()
	select {
	case exit = <-ended:
		return exit, nil
	case <-limit.C:
		cause = errTooLong
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	_ = cmd.Process.Signal(syscall.SIGINT) // an error is a process that ended
	grace := time.NewTimer(endGrace)
	defer grace.Stop()
	select {
	case exit = <-ended:
	case <-grace.C:
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		exit = <-ended
	}
	return exit, cause
}

// judge says what became of the spec.
func (a *attempt) judge(exit, cause error) (result, error) {
	found, err := a.report()
	if one, ok := found.results[a.spec]; ok && err == nil {
		return one, nil // also when it just ended before the interrupt
	}
	switch {
	case found.setup != "" && (cause == nil || errors.Is(cause, errTooLong)):
		return result{}, fmt.Errorf("%w: its preparations failed: %s", errBroken, found.setup)
	case errors.Is(cause, errTooLong):
		return result{Spec: a.spec, State: failed, Seconds: a.timeout.Seconds(), Message: fmt.Sprintf("did not end within %s", a.timeout)}, nil
	case cause != nil:
		return result{}, cause
	case err != nil:
		return result{}, fmt.Errorf("%w: %w (%v)", errBroken, err, exit)
	}
	return result{}, fmt.Errorf("%w (%v)", errBroken, exit)
}

// report reads the suite's report, and keeps it only if something is not in
// order: it lists all the thousands of specs that were not asked for.
func (a *attempt) report() (report, error) {
	path := filepath.Join(a.dir, "junit_01.xml")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return report{}, errors.New("it wrote no report")
	}
	if err != nil {
		return report{}, err
	}
	defer f.Close()
	found, err := readReport(f)
	if err == nil && found.results[a.spec].State == passed {
		err = os.Remove(path)
	}
	return found, err
}
