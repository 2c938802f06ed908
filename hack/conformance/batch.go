package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// endGrace is how long the suite may clean up after it was interrupted. It
// deletes namespaces, which takes as long as their pods do to end.
const endGrace = 3 * time.Minute

// maxProgress bounds a progress message: it repeats all failures so far.
const maxProgress = 1 << 20

// errSilent ends a batch that says nothing for too long.
var errSilent = errors.New("no spec ended in time")

// batch runs some specs in one process of the suite.
type batch struct {
	name   string // its folder's, below batches
	dir    string
	specs  []string
	silent time.Duration // how long may pass without a spec's end
	run    *runner
}

// start runs the batch and returns the specs that did not run to an end. What ran
// is in the journal by then. cause tells why it was ended early, if it was.
func (b *batch) start(ctx context.Context) (left []string, cause error) {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return b.specs, err
	}
	progress := make(chan string)
	url, stop, err := listen(progress)
	if err != nil {
		return b.specs, err
	}
	defer stop()
	log, err := os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		return b.specs, err
	}
	defer log.Close()

	cmd := exec.Command(b.run.suite.binary, b.flags(url)...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "KUBE_TEST_REPO_LIST="+b.run.suite.repositories)
	cmd.Stdout, cmd.Stderr = log, log
	// In a group of its own: a terminal's interrupt reaches this program alone,
	// which passes it on. When this program is killed, the suite still cleans up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	if err := cmd.Start(); err != nil {
		return b.specs, fmt.Errorf("start the suite: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	exit, cause := b.follow(ctx, cmd.Process, progress, ended)
	if err := b.readJUnit(errors.Is(cause, errSilent)); err != nil {
		return b.left(), errors.Join(cause, exit, fmt.Errorf("%w; see %s", err, log.Name()))
	}
	if left = b.left(); len(left) == len(b.specs) && cause == nil {
		cause = fmt.Errorf("the suite ran none of its specs (%v): see %s", exit, log.Name())
	}
	return left, cause
}

func (b *batch) flags(progressURL string) []string {
	flags := []string{
		"--provider=skeleton",
		"--kubeconfig=" + b.run.kubeconfig,
		"--kubectl-path=" + b.run.suite.kubectl,
		"--report-dir=" + b.dir,
		"--e2e-output-dir=" + b.dir,
		"--progress-report-url=" + progressURL,
		"--disable-log-dump",
		"--ginkgo.no-color", "--ginkgo.silence-skips",
		// Nothing of ginkgo's own limit: this program watches for each spec's end.
		"--ginkgo.timeout=240h",
	}
	for _, spec := range b.specs {
		// Ginkgo puts the suite's description in front of the names.
		flags = append(flags, "--ginkgo.focus= "+regexp.QuoteMeta(spec)+"$")
	}
	return flags
}

// follow notes what the suite tells until it ended. It interrupts the suite when
// ctx ends or no spec does, and kills it when that does not help.
func (b *batch) follow(ctx context.Context, process *os.Process, progress <-chan string, ended <-chan error) (exit, cause error) {
	quiet := time.NewTimer(b.silent)
	defer quiet.Stop()
	done, kill := ctx.Done(), (<-chan time.Time)(nil)
	interrupt := func(why error) {
		cause, done = why, nil
		_ = process.Signal(syscall.SIGINT) // an error is a process that ended
		kill = time.After(endGrace)
	}
	for {
		select {
		case message := <-progress:
			if b.note(message) {
				quiet.Reset(b.silent)
			}
		case <-done:
			quiet.Stop()
			interrupt(context.Cause(ctx))
		case <-quiet.C:
			interrupt(fmt.Errorf("%w (%s)", errSilent, b.silent))
		case <-kill:
			_ = syscall.Kill(-process.Pid, syscall.SIGKILL)
		case exit = <-ended:
			return exit, cause
		}
	}
}

// note takes a progress message of the suite, "PASSED NAME" or "FAILED NAME"
// among others, and tells whether a spec ended.
func (b *batch) note(message string) bool {
	word, spec, _ := strings.Cut(message, " ")
	switch word {
	case "PASSED":
		b.run.record(result{Spec: spec, State: passed, Batch: b.name})
	case "FAILED":
		b.run.record(result{Spec: spec, State: failed, Batch: b.name, Message: "see batches/" + b.name + "/log"})
	default:
		return false
	}
	return true
}

// readJUnit adds what only the report at the end tells: durations, messages,
// what was skipped. With silent set, the spec that was interrupted failed.
func (b *batch) readJUnit(silent bool) error {
	f, err := os.Open(filepath.Join(b.dir, "junit_01.xml"))
	if errors.Is(err, fs.ErrNotExist) {
		// It was killed. Of a single spec one knows all the same what became of it.
		if left := b.left(); silent && len(left) == 1 {
			b.tooLong(left[0])
		}
		return errors.New("the suite wrote no report")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	found, err := readReport(f)
	if err != nil {
		return err
	}
	if found.setup != "" {
		return fmt.Errorf("the suite's preparations failed: %s", found.setup)
	}
	for _, spec := range b.specs {
		if one, ok := found.results[spec]; ok {
			one.Batch = b.name
			b.run.record(one)
		}
	}
	if silent {
		for _, spec := range found.interrupted {
			b.tooLong(spec)
		}
	}
	return nil
}

func (b *batch) tooLong(spec string) {
	b.run.record(result{Spec: spec, State: failed, Batch: b.name, Message: fmt.Sprintf("did not end within %s", b.silent)})
}

// left are the specs of which this batch has no result.
func (b *batch) left() []string {
	var left []string
	for _, spec := range b.specs {
		if o, ok := b.run.journal.get(spec); !ok || o.last.Batch != b.name {
			left = append(left, spec)
		}
	}
	return left
}

// listen takes the suite's progress messages on a port of this machine.
func listen(progress chan<- string) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	gone := make(chan struct{})
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var update struct {
			Message string `json:"msg"`
		}
		if err := json.NewDecoder(io.LimitReader(r.Body, maxProgress)).Decode(&update); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		select {
		case progress <- update.Message:
		case <-gone:
		}
	})}
	go func() { _ = server.Serve(listener) }() // it ends by Close
	return "http://" + listener.Addr().String() + "/", func() { close(gone); _ = server.Close() }, nil
}
