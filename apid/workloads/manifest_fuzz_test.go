package workloads

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// FuzzManifest holds the manifest reader to what it promises for any bytes:
// an answer, either objects that can be applied or an error of the caller's that
// names the file and a line within it.
func FuzzManifest(f *testing.F) {
	for _, seed := range []string{
		"apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n",
		"---\n# nothing\n---\n{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}]}",
		"kind: [", "a: b: c", "%YAML 1.2\n---\nx: &a [*a]", "apiVersion: 1\nkind: 2\nmetadata: 3", "\xff\xfe", "- 1\n- 2",
		"kind: List\napiVersion: v1\nitems: 3", "kind: List\napiVersion: v1\nitems: [{kind: Pod}]", "metadata: {name: {}}\nkind: Pod\napiVersion: v1",
	} {
		f.Add([]byte(seed))
	}
	f.Add([]byte("a: 1\r---\rb: 2"))
	f.Add([]byte("--- # x\n{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": []}{}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		documents, err := parse([]*workloadpb.Manifest{{Source: "m.yaml", Content: content}})
		if err != nil {
			if status.Code(err) != codes.InvalidArgument {
				t.Fatalf("%v", err)
			}
			if !bytes.Contains([]byte(err.Error()), []byte("m.yaml:")) {
				t.Fatalf("no place in: %v", err)
			}
			return
		}
		lines := bytes.Count(content, []byte("\n")) + 1
		for _, d := range documents {
			if d.object.GetKind() == "" || d.object.GetAPIVersion() == "" || d.object.GetName() == "" {
				t.Fatalf("an object without kind, version or name: %v", d.object)
			}
			if d.line < 1 || d.line > lines {
				t.Fatalf("line %d of %d", d.line, lines)
			}
			_, _ = d.object.MarshalJSON()
		}
		_ = inOrder(documents)
	})
}
