package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// counts are how the specs of a group ended; together they are all of them.
type counts struct{ specs, passed, failed, skipped, excluded, notRun int }

func (c *counts) add(p planned, outcomes map[string]outcome) {
	c.specs++
	o, ran := outcomes[p.spec]
	switch {
	case ran && o.last.State == passed:
		c.passed++
	case ran && o.last.State == failed:
		c.failed++
	case ran:
		c.skipped++
	case p.excluded != "":
		c.excluded++
	default:
		c.notRun++
	}
}

// count returns the counts of each group and of all.
func count(all []planned, outcomes map[string]outcome) (byGroup map[string]counts, sum counts) {
	byGroup = map[string]counts{}
	for _, p := range all {
		c := byGroup[p.group]
		c.add(p, outcomes)
		byGroup[p.group] = c
		sum.add(p, outcomes)
	}
	return byGroup, sum
}

// about is what a summary says of its run besides the results.
type about struct {
	suiteVersion string
	what         string // the selection, as it was asked for
}

// writeSummary writes Markdown: a table of the groups, then each spec that did
// not just pass, with the reason.
func writeSummary(to io.Writer, a about, all []planned, outcomes map[string]outcome) error {
	var text strings.Builder
	byGroup, sum := count(all, outcomes)
	fmt.Fprintf(&text, "Suite of Kubernetes %s, %s; %s.\n\n", a.suiteVersion, a.what, when(all, outcomes))
	text.WriteString("| group | specs | passed | failed | skipped | excluded | not run |\n|---|---:|---:|---:|---:|---:|---:|\n")
	row := func(name string, c counts) {
		fmt.Fprintf(&text, "| %s | %d | %d | %d | %d | %d | %d |\n", name, c.specs, c.passed, c.failed, c.skipped, c.excluded, c.notRun)
	}
	for _, name := range groupNames() {
		if c, ok := byGroup[name]; ok {
			row(name, c)
		}
	}
	row("all", sum)
	var took float64
	for _, p := range all {
		took += outcomes[p.spec].last.Seconds
	}
	fmt.Fprintf(&text, "\nThe specs' own times add up to %s.\n", time.Duration(took*float64(time.Second)).Round(time.Second))

	section(&text, "Failed", all, func(p planned) string {
		if o := outcomes[p.spec]; o.last.State == failed {
			return fmt.Sprintf("%s (run %s, attempt %d)", o.last.Message, o.last.Run, o.attempts)
		}
		return ""
	})
	section(&text, "Passed, but not at the first attempt", all, func(p planned) string {
		if o := outcomes[p.spec]; o.last.State == passed && o.attempts > 1 {
			return fmt.Sprintf("attempt %d", o.attempts)
		}
		return ""
	})
	section(&text, "Skipped by the suite itself", all, func(p planned) string {
		if o := outcomes[p.spec]; o.last.State == skipped {
			return o.last.Message
		}
		return ""
	})
	section(&text, "Excluded", all, func(p planned) string {
		if _, ran := outcomes[p.spec]; ran {
			return ""
		}
		return p.excluded
	})
	section(&text, "Not run", all, func(p planned) string {
		if _, ran := outcomes[p.spec]; ran || p.excluded != "" {
			return ""
		}
		return "no result: its turn did not come, it was interrupted, or the suite did not start"
	})
	_, err := io.WriteString(to, text.String())
	return err
}

// when tells of what time the results are: a run that was resumed may be of
// several days.
func when(all []planned, outcomes map[string]outcome) string {
	var first, last time.Time
	for _, p := range all {
		if at := outcomes[p.spec].last.Time; !at.IsZero() {
			if first.IsZero() || at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
		}
	}
	if first.IsZero() {
		return "no results yet"
	}
	const layout = "2006-01-02 15:04"
	return fmt.Sprintf("results of %s to %s UTC", first.UTC().Format(layout), last.UTC().Format(layout))
}

// section lists the specs for which reason returns one, by reason.
func section(text *strings.Builder, title string, all []planned, reason func(planned) string) {
	byReason := map[string][]string{}
	for _, p := range all {
		if why := reason(p); why != "" {
			byReason[why] = append(byReason[why], p.spec)
		}
	}
	if len(byReason) == 0 {
		return
	}
	fmt.Fprintf(text, "\n### %s\n\n", title)
	for _, why := range slices.Sorted(maps.Keys(byReason)) {
		fmt.Fprintf(text, "- %s:\n", escape(why))
		for _, spec := range byReason[why] {
			fmt.Fprintf(text, "  - `%s`\n", spec)
		}
	}
}

// escape keeps a message from being read as Markdown.
var escape = strings.NewReplacer("`", "'", "*", `\*`, "_", `\_`, "<", "&lt;", "|", `\|`, "[", `\[`, "]", `\]`).Replace

func groupNames() []string {
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
	}
	return append(names, otherGroup)
}
