package shop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const door = "http://127.0.0.1:8080"

// The whole shop, from its images, on a loopback network: every service as its
// manifest says, and what a visitor sees when one of them is away.
func TestTheShopServesItsPage(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	m := readManifests(t)
	pods := map[string]*pod{}
	for name := range m.pods {
		pods[name] = newPod(t, m, name)
	}
	t.Cleanup(func() {
		for name, p := range pods {
			if t.Failed() {
				t.Logf("%s printed:\n%s", name, p.log())
			}
		}
	})
	// What a first start leaves whose power was cut.
	half := filepath.Join(os.Getenv(workDir), "database/data/15.new")
	if err := os.MkdirAll(half, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(half, 103, 103); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "PG_VERSION"), []byte("15\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	// At once, as in a cluster: each must cope with the others not being there.
	for _, p := range pods {
		p.start()
	}
	for _, p := range pods {
		p.ready()
	}
	pod, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}

	expect(t, get(t, "/"), "Ship in a bottle", "129.00", "Visit 1.", "Products from the database", "Answered by "+pod+", version 1")
	expect(t, get(t, "/"), "Visit 2.", "Products from the cache", "Orders so far: 0.")
	expect(t, get(t, "/static/shop.css"), "text/css", "font:")
	expect(t, get(t, "/nothing"), "404 Not Found")

	for n := range 3 {
		expect(t, post(t, url.Values{"product": {"5"}}), "200 OK", fmt.Sprintf("number %d", n+1), "Products from the database")
	}
	expect(t, post(t, url.Values{"product": {"5"}}), "409 Conflict", "sold out")
	expect(t, get(t, "/"), "sold out", "Orders so far: 3.")
	expect(t, post(t, url.Values{"product": {"6"}}), "404 Not Found", "no such product")
	expect(t, post(t, url.Values{"product": {"Anchor"}}), "400 Bad Request")
	expect(t, postJSON(t, `{"product": 1}`), "201 Created", `"order":4`)
	expect(t, postJSON(t, `{"product": "1"}`), "400 Bad Request")
	expect(t, get(t, "/api/products"), `"name":"Anchor","cents":4900,"stock":19`, `"orders":4`)

	out, err := pods["database"].command([]string{"psql", "-c", "TABLE products", "shop"}).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Anchor") {
		t.Errorf("psql in the database's pod: %v: %s", err, out)
	}

	pods["cache"].stop()
	expect(t, get(t, "/"), "200 OK", "the cache is away", "Products from the database", "Orders so far: 4.")
	pods["cache"].start()
	pods["cache"].ready()
	eventually(t, "visits are counted again", func() error {
		if page := get(t, "/"); !strings.Contains(page, "Visit 1.") {
			return errors.New(page)
		}
		return nil
	})

	pods["database"].stop()
	expect(t, get(t, "/"), "503 Service Unavailable", "the shop's database does not answer")
	pods["database"].start()
	pods["database"].ready()
	expect(t, get(t, "/"), "200 OK", "Orders so far: 4.") // they are on the volume
	if log := pods["database"].log(); strings.Contains(log, "secret") {
		t.Error("the database's log has the password in it")
	}

	pods["api"].stop()
	expect(t, get(t, "/"), "502 Bad Gateway", "Back in a moment")
	pods["front"].stop()
}

// Debian's licences ask that these come with the programs.
func TestImagesHaveTheCopyrightsOfTheirPackages(t *testing.T) {
	if _, err := os.Stat(archive()); err != nil {
		t.Skipf("%v: \"make shop\" builds it", err)
	}
	for image, packages := range map[string][]string{
		"keelson.local/shop-front:1":    {"nginx", "libc6", "libssl3"},
		"keelson.local/shop-cache:1":    {"redis-tools", "redis-server", "libc6", "libjemalloc2", "libgcc-s1"},
		"keelson.local/shop-database:1": {"postgresql-15", "dash", "libc6", "libicu72", "libkrb5-3"},
	} {
		root := t.TempDir()
		unpack(t, image, root)
		for _, name := range packages {
			if text, err := os.ReadFile(filepath.Join(root, "usr/share/doc", name, "copyright")); err != nil || len(text) < 100 {
				t.Errorf("%s: the copyright file of %s has %d bytes, %v", image, name, len(text), err)
			}
		}
	}
}

func expect(t *testing.T, answer string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(answer, w) {
			t.Errorf("the answer lacks %q:\n%s", w, answer)
		}
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	return answer(t)(http.Get(door + path))
}

func post(t *testing.T, form url.Values) string {
	t.Helper()
	return answer(t)(http.PostForm(door+"/orders", form))
}

func postJSON(t *testing.T, body string) string {
	t.Helper()
	return answer(t)(http.Post(door+"/api/orders", "application/json", strings.NewReader(body)))
}

// answer returns a response as text: status, content type and body.
func answer(t *testing.T) func(*http.Response, error) string {
	return func(response *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.Status + "\n" + response.Header.Get("Content-Type") + "\n" + string(body)
	}
}

func reach(port int) error {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), probeTime)
	if err != nil {
		return err
	}
	return conn.Close()
}

// eventually calls check until it returns nil or the deadline passes.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ticker := time.NewTicker(again)
	defer ticker.Stop()
	for end := time.Now().Add(deadline); ; <-ticker.C {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s: %v", what, deadline, err)
		}
	}
}
