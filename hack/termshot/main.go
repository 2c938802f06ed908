// Command termshot draws the text on its standard input as a terminal, in SVG,
// so that README's picture can be made anew from what was really printed:
//
//	bin/osctl services | go run ./hack/termshot -title "osctl services" >docs/running.svg
package main

import (
	"bufio"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// Sizes in pixels of a 13-pixel monospaced font.
const (
	fontSize   = 13
	charWidth  = 7.8
	lineHeight = 18
	margin     = 16
	titleBar   = 32
)

func main() {
	title := flag.String("title", "", "`text` of the title bar")
	flag.Parse()
	if err := draw(*title); err != nil {
		fmt.Fprintln(os.Stderr, "termshot:", err)
		os.Exit(1)
	}
}

func draw(title string) error {
	var lines []string
	width := 0
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		line := strings.ReplaceAll(input.Text(), "\t", "        ")
		lines = append(lines, line)
		width = max(width, utf8.RuneCountInString(line))
	}
	if err := input.Err(); err != nil {
		return err
	}
	w, h := 2*margin+int(float64(width)*charWidth), titleBar+margin+len(lines)*lineHeight
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="ui-monospace,Menlo,Consolas,monospace" font-size="%d">`+"\n", w, h, w, h, fontSize)
	fmt.Fprintf(out, `<rect width="%d" height="%d" rx="8" fill="#14181f"/>`+"\n", w, h)
	for i, colour := range []string{"#ff5f57", "#febc2e", "#28c840"} {
		fmt.Fprintf(out, `<circle cx="%d" cy="16" r="6" fill="%s"/>`+"\n", 20+20*i, colour)
	}
	fmt.Fprintf(out, `<text x="%d" y="21" fill="#8b949e" text-anchor="middle">%s</text>`+"\n", w/2, escape(title))
	for i, line := range lines {
		colour := "#d7dde5"
		if strings.HasPrefix(line, "$ ") {
			colour = "#7ee787"
		}
		fmt.Fprintf(out, `<text x="%d" y="%d" fill="%s" xml:space="preserve">%s</text>`+"\n", margin, titleBar+margin+i*lineHeight, colour, escape(line))
	}
	fmt.Fprintln(out, "</svg>")
	return out.Flush()
}

func escape(text string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(text)); err != nil {
		return ""
	}
	return b.String()
}
