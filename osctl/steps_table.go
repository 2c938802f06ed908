package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// minDetail is how many characters of a detail are worth their place.
const minDetail = 10

// nodeRow is one node's line of the table below a step.
type nodeRow struct {
	node, role string
	stage
}

// said is what was last printed of a node where nothing can be redrawn.
type said struct {
	stage, detail string
	at            time.Time
}

// show tells how far each node is: on a terminal as a table that stays below the
// step under way, elsewhere a line for each change of stage, and now and then one
// for what a node waits for.
func (steps *steps) show(rows []nodeRow) {
	steps.mu.Lock()
	defer steps.mu.Unlock()
	steps.rows = rows
	if steps.app.live {
		steps.draw()
		return
	}
	now := steps.app.now()
	for _, row := range rows {
		before := steps.said[row.node]
		changed := row.name != before.stage
		if !changed && (row.detail == before.detail || now.Sub(before.at) < detailInterval) {
			continue
		}
		steps.said[row.node] = said{row.name, row.detail, now}
		text := row.node + " " + row.name
		if row.detail != "" {
			text += ": " + row.detail
		}
		fmt.Fprintf(steps.app.stderr, "%s   %s\n", steps.stamp(), text)
	}
}

// tableLines lays the nodes out, each line cut to a width and painted.
func (steps *steps) tableLines(width int) []string {
	if len(steps.rows) == 0 {
		return nil
	}
	cells := [][]string{{"NODE", "ROLE", "STAGE", "DETAIL"}}
	for _, row := range steps.rows {
		cells = append(cells, []string{row.node, row.role, row.name, row.detail})
	}
	widths := make([]int, 4)
	for _, row := range cells {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	var lines []string
	for i, row := range cells {
		var line strings.Builder
		for column, text := range row[:3] {
			padded := text + strings.Repeat(" ", widths[column]-utf8.RuneCountInString(text)+2)
			if i > 0 && column == 2 {
				padded = steps.app.paint(steps.rows[i-1].paint, padded)
			}
			line.WriteString(padded)
		}
		if room := width - widths[0] - widths[1] - widths[2] - 6; room >= minDetail {
			line.WriteString(fit(row[3], room))
		}
		text := strings.TrimRight(line.String(), " ")
		if i == 0 {
			text = steps.app.paint(faint, text)
		}
		lines = append(lines, "        "+text)
	}
	return lines
}
