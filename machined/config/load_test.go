package config

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

var goodConfig = sync.OnceValue(func() string {
	config := machineconfig.Default()
	config.Machine.Type = machineconfig.ControlPlane
	config.Cluster.Name = "test"
	config.Cluster.Endpoint = "https://10.0.0.5:6443"
	config.Cluster.ControlPlane.Addresses = []machineconfig.Host{"10.0.0.5"}
	secrets, err := machineconfig.NewSecrets("test", time.Now())
	if err != nil {
		panic(err)
	}
	config.Secrets = secrets
	text, err := machineconfig.Encode(config)
	if err != nil {
		panic(err)
	}
	return string(text)
})

// answers is a server that gives one answer after the other; the last stays.
type answers struct {
	list  []answer
	asked []string
	// methods are those of the requests.
	methods []string
}

type answer struct {
	code     int
	body     string
	location string
	err      error
}

func (server *answers) RoundTrip(request *http.Request) (*http.Response, error) {
	server.asked = append(server.asked, request.URL.String())
	server.methods = append(server.methods, request.Method)
	now := server.list[0]
	if len(server.list) > 1 {
		server.list = server.list[1:]
	}
	if now.err != nil {
		return nil, now.err
	}
	header := http.Header{}
	if now.location != "" {
		header.Set("Location", now.location)
	}
	return &http.Response{StatusCode: now.code, Header: header, Body: io.NopCloser(strings.NewReader(now.body)), Request: request}, nil
}

func options(root fstest.MapFS, url string, server *answers) Options {
	return Options{Root: root, URL: url, Transport: server, Log: slog.New(slog.DiscardHandler)}
}

func TestFirmwareComesBeforeTheURL(t *testing.T) {
	root := fstest.MapFS{FirmwarePath: {Data: []byte(goodConfig())}}
	config, source, err := Load(t.Context(), options(root, "http://never.asked/", nil))
	if err != nil || source != "fw_cfg" || config.Cluster.Name != "test" {
		t.Errorf("%v from %q: %v", config, source, err)
	}
}

func TestTheImagesOwnConfigComesLast(t *testing.T) {
	root := fstest.MapFS{EmbeddedPath: {Data: []byte(goodConfig())}}
	if _, source, err := Load(t.Context(), options(root, "", nil)); err != nil || source != embeddedSource {
		t.Errorf("%s: %v", source, err)
	}
	server := &answers{list: []answer{{code: 200, body: goodConfig()}}}
	if _, source, err := Load(t.Context(), options(root, "http://10.0.0.1/c", server)); err != nil || source != "http://10.0.0.1/c" {
		t.Errorf("%s: %v", source, err)
	}
}

func TestNoSourceHasAConfig(t *testing.T) {
	for name, root := range map[string]fstest.MapFS{"none": {}, "empty": {FirmwarePath: {Data: []byte("\n")}}} {
		_, _, err := Load(t.Context(), options(root, "", nil))
		var notFound *NotFoundError
		if !errors.As(err, &notFound) || !strings.Contains(err.Error(), "no machine config") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABadConfigNamesFieldAndLine(t *testing.T) {
	root := fstest.MapFS{FirmwarePath: {Data: []byte("apiVersion: keelson/v1\nkind: Machine\nhostnam: x\n")}}
	_, source, err := Load(t.Context(), options(root, "", nil))
	found := machineconfig.Errors(err)
	if source != "fw_cfg" || len(found) == 0 || !strings.Contains(err.Error(), `fw_cfg:3:1: machine: unknown field "hostnam"`) {
		t.Errorf("from %q: %v", source, err)
	}
}

func TestFetchTriesAgainUntilTheServerHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &answers{list: []answer{{err: errors.New("connection refused")}, {code: 503}, {code: 200, body: goodConfig()}}}
		network := 0
		opts := options(fstest.MapFS{}, "http://user:password@10.0.0.1/config?token=secret", server)
		opts.Network = func(context.Context) error { network++; return nil }
		_, source, err := Load(t.Context(), opts)
		if err != nil || len(server.asked) != 3 || network != 1 {
			t.Errorf("asked %d times, network brought up %d times: %v", len(server.asked), network, err)
		}
		if source != "http://10.0.0.1/config" {
			t.Errorf("source %q", source)
		}
	})
}

func TestTheURLMayNameTheMachine(t *testing.T) {
	root := fstest.MapFS{"sys/class/dmi/id/product_uuid": {Data: []byte("6E5C-01\n")}}
	server := &answers{list: []answer{{code: 200, body: goodConfig()}}}
	opts := options(root, "http://10.0.0.1:80/${uuid}/${mac}?m=${mac}", server)
	opts.MAC = func(_ context.Context, host string) (net.HardwareAddr, error) {
		if host != "10.0.0.1:80" {
			t.Errorf("asked for the way to %s", host)
		}
		return net.HardwareAddr{0x52, 0x54, 0, 0xab, 0, 1}, nil
	}
	_, source, err := Load(t.Context(), opts)
	if want := "http://10.0.0.1:80/6E5C-01/52:54:00:ab:00:01"; err != nil || string(source) != want || server.asked[0] != want+"?m=52:54:00:ab:00:01" {
		t.Errorf("asked %v: %s: %v", server.asked, source, err)
	}
	opts.URL = "http://10.0.0.1/${serial}"
	if _, _, err := Load(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "does not tell what ${serial} is") {
		t.Error(err)
	}
}

func TestTheCardTowardsAHost(t *testing.T) {
	// The way to oneself leads through the loopback, which is no card.
	for _, host := range []string{"127.0.0.1:80", "127.0.0.1"} {
		if mac, err := cardTowards(t.Context(), host); err == nil || !strings.Contains(err.Error(), "leads through no network card") {
			t.Errorf("%s: %v %v", host, mac, err)
		}
	}
}

func TestFetchGivesUp(t *testing.T) {
	for name, test := range map[string]struct {
		url    string
		server *answers
		tries  func(int) bool
		want   string
	}{
		"at once when it is not there":  {"http://10.0.0.1/c?k=secret", &answers{list: []answer{{code: 404}}}, func(n int) bool { return n == 1 }, "answered 404"},
		"at the deadline":               {"http://10.0.0.1/c?k=secret", &answers{list: []answer{{err: errors.New("no route")}}}, func(n int) bool { return n > 5 && n < 50 }, "no route"},
		"of what is no URL":             {"ftp://10.0.0.1/secret", &answers{}, func(n int) bool { return n == 0 }, "expected http://"},
		"on a redirect into the clear":  {"https://10.0.0.1/c", &answers{list: []answer{{code: 302, location: "http://10.0.0.1/secret"}}}, func(n int) bool { return n > 1 }, "redirected from https to http"},
		"of what is larger than a file": {"http://10.0.0.1/c", &answers{list: []answer{{code: 200, body: strings.Repeat("#", machineconfig.MaxSize+9)}}}, func(n int) bool { return n == 1 }, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, err := Load(t.Context(), options(fstest.MapFS{}, test.url, test.server))
				if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v, want %q", err, test.want)
				}
				if !test.tries(len(test.server.asked)) {
					t.Errorf("asked %d times", len(test.server.asked))
				}
				for _, asked := range test.server.asked {
					if strings.HasPrefix(test.url, "https:") && !strings.HasPrefix(asked, "https:") {
						t.Errorf("asked %s", asked)
					}
				}
			})
		})
	}
}

func TestTheInstalledConfigComesFirst(t *testing.T) {
	root := fstest.MapFS{FirmwarePath: {Data: []byte("kind: Nonsense\n")}}
	for name, test := range map[string]struct {
		text string
		err  error
		want string // of the error; empty means success
	}{
		"it is there":          {goodConfig(), nil, ""},
		"it is damaged":        {"kind: Machine\nhostnam: x\n", nil, "the partition STATE:"},
		"it cannot be read":    {"", errors.New("I/O error"), "the config that the node was installed with: I/O error"},
		"there is none of its": {"", fs.ErrNotExist, "fw_cfg:"},
	} {
		opts := options(root, "", nil)
		opts.Installed = func(context.Context) ([]byte, error) { return []byte(test.text), test.err }
		config, source, err := Load(t.Context(), opts)
		switch {
		case test.want == "" && (err != nil || source != installedSource || config.Cluster.Name != "test"):
			t.Errorf("%s: %v from %q: %v", name, config, source, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
