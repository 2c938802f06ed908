package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/etcd"
)

func (app *app) etcdMembersCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "members", Short: "List etcd's members, as the node knows and reaches them", Args: cobra.NoArgs,
	}
	output := addOutput(command, asTable, asWide, asJSON, asYAML, asName)
	command.RunE = func(command *cobra.Command, _ []string) error {
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		list, err := node.Etcd.Members(command.Context(), &etcd.MembersRequest{})
		if err != nil {
			return err
		}
		switch output.value {
		case asTable, asWide:
			return app.printMembers(list, output.value == asWide)
		case asName:
			for _, member := range list.GetMembers() {
				fmt.Fprintln(app.stdout, cmp.Or(member.GetName(), member.GetId()))
			}
			return nil
		}
		return app.printMessage(output.value, list)
	}
	return command
}

func (app *app) printMembers(list *etcd.MembersResponse, wide bool) error {
	headers := []string{"NAME", "ID", "ROLE", "REACHABLE", "MESSAGE"}
	if wide {
		headers = []string{"NAME", "ID", "ROLE", "REACHABLE", "PEER URLS", "CLIENT URLS", "MESSAGE"}
	}
	table := newTable(headers...)
	for _, member := range list.GetMembers() {
		name := cmp.Or(member.GetName(), "-") // of one that has not started yet
		reachable := cell{"yes", green}
		if !member.GetReachable() {
			reachable = cell{"no", red}
		}
		row := []any{name, member.GetId(), memberRole(member.GetLeader(), member.GetLearner()), reachable}
		if wide {
			row = append(row, listed(member.GetPeerUrls()), listed(member.GetClientUrls()))
		}
		table.add(append(row, member.GetMessage())...)
	}
	if err := app.print(table); err != nil {
		return err
	}
	if list.GetLeaderId() == "" {
		fmt.Fprintln(app.stderr, app.paint(red, "there is no leader, so nothing can be written:"), "osctl etcd status says what to do")
	}
	return nil
}

// memberRole is what a member does, in one word.
func memberRole(leader, learner bool) cell {
	switch {
	case leader:
		return cell{"leader", green}
	case learner:
		return cell{"learner", yellow}
	}
	return cell{"follower", plain}
}

// listed joins values for a table.
func listed(values []string) string {
	if len(values) == 0 {
		return "-"
	}
	return strings.Join(values, ",")
}
