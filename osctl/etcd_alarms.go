package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/etcd"
)

func (app *app) etcdAlarmsCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "alarms", Short: "List the alarms that etcd's members raised", Args: cobra.NoArgs,
		Long: `List the alarms that etcd's members raised. NOSPACE: the database is full and
takes no writes; make room (osctl etcd defrag), then take the alarm back.
CORRUPT: a member's data differs from the others'; reset its node.`,
	}
	output := addOutput(command, asTable, asJSON, asYAML)
	disarm := command.Flags().Bool("disarm", false, "take the alarms back")
	command.RunE = func(command *cobra.Command, _ []string) error {
		node, err := app.connect(command.Context())
		if err != nil {
			return err
		}
		list, err := node.Etcd.Alarms(command.Context(), &etcd.AlarmsRequest{Disarm: *disarm})
		if err != nil {
			return err
		}
		if output.value != asTable {
			return app.printMessage(output.value, list)
		}
		if len(list.GetAlarms()) == 0 {
			_, err := fmt.Fprintln(app.stdout, "no alarms")
			return err
		}
		table := newTable("MEMBER", "ALARM")
		for _, one := range list.GetAlarms() {
			table.add(one.GetMember(), cell{one.GetAlarm(), red})
		}
		if err := app.print(table); err != nil || !*disarm {
			return err
		}
		_, err = fmt.Fprintln(app.stdout, "taken back")
		return err
	}
	return command
}
