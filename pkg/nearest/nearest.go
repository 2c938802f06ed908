package nearest

import (
	"fmt"
	"slices"
	"strings"
)

// maxNamed is how many names a message lists.
const maxNamed = 12

// maxTyped is how many characters of what was typed are looked at: nothing near
// longer words exists.
const maxTyped = 64

// Names returns those of names that are likely meant by a mistyped one, nearest
// first.
func Names(typed string, names []string) []string {
	type candidate struct {
		name string
		far  int
	}
	// A third of the letters may be wrong.
	limit := max(1, len(typed)/3)
	var near []candidate
	for _, name := range names {
		if far := distance(typed, name); far <= limit {
			near = append(near, candidate{name, far})
		}
	}
	slices.SortFunc(near, func(a, b candidate) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var found []string
	for _, c := range slices.CompactFunc(near, func(a, b candidate) bool { return a.name == b.name }) {
		found = append(found, c.name)
	}
	return found[:min(len(found), maxNamed)]
}

// distance is how many letters must be changed, added or left out to make b of
// a (Levenshtein).
func distance(a, b string) int {
	a, b = a[:min(len(a), maxTyped)], b[:min(len(b), maxTyped)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// List joins names for a message, sorted, or if they are many the nearest to what
// was typed first; it tells how many it leaves out.
func List(typed string, names []string) string {
	if len(names) == 0 {
		return "none"
	}
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	if len(sorted) <= maxNamed {
		return strings.Join(sorted, ", ")
	}
	slices.SortStableFunc(sorted, func(a, b string) int { return distance(typed, a) - distance(typed, b) })
	return fmt.Sprintf("%s and %d more", strings.Join(sorted[:maxNamed], ", "), len(sorted)-maxNamed)
}
