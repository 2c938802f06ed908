package main

import (
	"fmt"
	"strings"
)

// presence is a member as far as quorum goes.
type presence struct {
	id      uint64
	name    string // never empty: see nameOf
	learner bool
	answers bool
	trouble string // why it does not answer
	self    bool   // this process's member
}

// votes returns the voting members, how many of them answer, and how many must.
func votes(roll []presence) (voters []presence, answering, needed int) {
	for _, each := range roll {
		if each.learner {
			continue
		}
		voters = append(voters, each)
		if each.answers {
			answering++
		}
	}
	return voters, answering, len(voters)/2 + 1
}

// named lists the names of those that match, "none" if there is none.
func named(roll []presence, match func(presence) bool) []string {
	var names []string
	for _, each := range roll {
		if match(each) {
			names = append(names, each.name)
		}
	}
	return names
}

func answering(p presence) bool { return p.answers }
func silent(p presence) bool    { return !p.answers }

// noQuorum says that too few members answer and what to do about it. It is
// empty when enough do.
func noQuorum(roll []presence) string {
	voters, answers, needed := votes(roll)
	if answers >= needed {
		return ""
	}
	here := "NODE"
	for _, each := range roll {
		if each.self {
			here = each.name
		}
	}
	back := named(voters, silent)
	return fmt.Sprintf("etcd has no quorum: %d of %d members %s (%s); bring %s back, or take a snapshot here (osctl -N %s etcd snapshot FILE), "+
		"reset the control-plane nodes (osctl reset --force) and run osctl bootstrap --recover-from FILE on one%s",
		answers, len(voters), plural(answers, "answers", "answer"), strings.Join(named(voters, answering), ", "),
		enumerate(back, needed-answers), here, troubles(voters))
}

// troubles lists why members do not answer.
func troubles(roll []presence) string {
	var list []string
	for _, each := range roll {
		if !each.answers && each.trouble != "" {
			list = append(list, each.name+": "+each.trouble)
		}
	}
	if list == nil {
		return ""
	}
	return " (" + strings.Join(list, "; ") + ")"
}

// enumerate names those of whom so many are needed: "ha-2 or ha-3".
func enumerate(names []string, needed int) string {
	switch {
	case len(names) <= needed:
		return strings.Join(names, " and ")
	case needed == 1:
		return strings.Join(names, " or ")
	default:
		return fmt.Sprintf("%d of %s", needed, strings.Join(names, ", "))
	}
}

func plural(count int, one, many string) string {
	if count == 1 {
		return one
	}
	return many
}

// refuseRemoval says why the member must not be removed, empty if it may be.
// Force overrules all but that a cluster needs a voting member.
func refuseRemoval(roll []presence, id uint64, force bool) string {
	var rest []presence
	var target presence
	for _, each := range roll {
		if each.id == id {
			target = each
		} else {
			rest = append(rest, each)
		}
	}
	if target.learner {
		return "" // it counts for nothing
	}
	voters, answers, needed := votes(rest)
	switch {
	case len(voters) == 0:
		return fmt.Sprintf("%s is the only voting member, and the cluster's data is gone with it: to start anew, reset the node (osctl reset --force)", target.name)
	case force || answers >= needed:
		return ""
	}
	return fmt.Sprintf("without %s, %d of %d members would answer (%s) and %d must: bring %s back or remove %s first; --force removes %s all the same, and the cluster stops",
		target.name, answers, len(voters), listOr(named(voters, answering), "none"), needed,
		enumerate(named(voters, silent), needed-answers), plural(len(voters)-answers, "it", "them"), target.name)
}

func listOr(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}
