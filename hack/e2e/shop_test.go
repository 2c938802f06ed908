package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testShop is docs/shop.md, step by step.
func testShop(t *testing.T) {
	osctl(t, "image", "import", filepath.Join(artifacts, "shop.tar"))
	osctl(t, "create", "secret", "generic", "shop", "--from-literal=password=shop's password")
	osctl(t, "apply", "-f", "../shop")
	for _, each := range []string{"statefulset/database", "deployment/cache", "deployment/api", "deployment/front"} {
		osctl(t, "rollout", "status", each, "--timeout", settleDeadline.String())
	}
	door := forward(t, "default", "service/front")
	shopShows(t, door, "Ship in a bottle", "version 1")
	if answer := answered(http.Post(door+"/api/orders", "application/json", strings.NewReader(`{"product": 1}`))); !strings.Contains(answer, `"order":1`) {
		t.Errorf("an order is answered by %s", answer)
	}

	osctl(t, "scale", "deployment/api", "--replicas=3")
	osctl(t, "rollout", "status", "deployment/api", "--timeout", settleDeadline.String())
	eventually(t, "three pods answer", func() error { return shopPods(door, 3) })

	osctl(t, "set", "image", "deployment/api", "api=keelson.local/shop-api:2")
	osctl(t, "rollout", "status", "deployment/api", "--timeout", settleDeadline.String())
	shopShows(t, door, "version 2")
	osctl(t, "rollout", "undo", "deployment/api")
	osctl(t, "rollout", "status", "deployment/api", "--timeout", settleDeadline.String())
	shopShows(t, door, "version 1")

	// Its successor has the volume, and with it the order.
	osctl(t, "delete", "pod", "database-0")
	osctl(t, "rollout", "status", "statefulset/database", "--timeout", settleDeadline.String())
	shopShows(t, door, "Orders so far: 1.")

	osctl(t, "delete", "-f", "../shop")
	osctl(t, "delete", "pvc", "data-database-0")
	osctl(t, "delete", "secret", "shop")
	eventually(t, "the shop's images are removed", func() error {
		for _, name := range strings.Fields(osctl(t, "image", "list", "-o", "name")) {
			if !strings.Contains(name, "/shop-") {
				continue
			}
			if _, err := osctlFor(settleDeadline, nil, "image", "rm", name); err != nil {
				return err
			}
		}
		return nil
	})
}

func shopShows(t *testing.T, door string, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the shop shows %q", want), func() error {
		page := answered(http.Get(door + "/"))
		for _, w := range want {
			if !strings.Contains(page, w) {
				return fmt.Errorf("the page lacks %q: %s", w, page)
			}
		}
		return nil
	})
}

var answeredBy = regexp.MustCompile(`Answered by (\S+),`)

// shopPods looks at pages until as many pods have answered.
func shopPods(door string, want int) error {
	seen := map[string]bool{}
	for range 20 * want {
		page := answered(http.Get(door + "/"))
		if pod := answeredBy.FindStringSubmatch(page); pod != nil {
			seen[pod[1]] = true
		}
		if len(seen) == want {
			return nil
		}
	}
	return fmt.Errorf("pages came from %v, expected %d pods", seen, want)
}
