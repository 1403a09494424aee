package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (s *shell) contextCommand() *cobra.Command {
	list := func(context.Context, []string) error { return s.listContexts() }
	c := s.verb(verb{
		use: "context", aliases: []string{"racks"}, short: "List, choose and forget racks", run: list,
		long:    "List the racks that this machine remembers. The current one is used when -r names no other.",
		example: "  slipway context\n  slipway context use production",
	})
	c.AddCommand(
		s.verb(verb{use: "list", short: "List racks", long: "List the racks that this machine remembers.", example: "  slipway context list", run: list}),
		s.verb(verb{
			use: "use NAME", names: rackNames, short: "Choose the current rack", long: "Choose the rack that is used when -r names no other.",
			example: "  slipway context use production", args: between(1, 1),
			run: func(_ context.Context, args []string) error { return s.useContext(args[0]) },
		}),
		s.verb(verb{
			use: "remove NAME", names: rackNames, short: "Forget a rack and its token", long: "Forget a rack and its token. The rack is not touched.",
			example: "  slipway context remove old", args: between(1, 1),
			run: func(_ context.Context, args []string) error { return s.removeContext(args[0]) },
		}),
	)
	return c
}

func (s *shell) switchCommand() *cobra.Command {
	return s.verb(verb{
		use: "switch [RACK]", names: rackNames, short: "Choose the current rack, or name it", args: between(0, 1),
		long:    "Choose the rack that is used when -r names no other, as context use does; without a name, print the current one.",
		example: "  slipway switch\n  slipway switch production",
		run: func(_ context.Context, args []string) error {
			if len(args) > 0 {
				return s.useContext(args[0])
			}
			return s.currentContext()
		},
	})
}

func (s *shell) currentContext() error {
	conf, err := s.loadConfig()
	if err != nil {
		return err
	}
	rack, ok := conf.Racks[conf.Current]
	if !ok {
		return usage("no rack is chosen; run: slipway login ADDRESS, or: slipway switch NAME")
	}
	return s.print(contextRow{Name: conf.Current, Addr: rack.Addr, Current: true}, func() error { return s.answer(conf.Current) })
}

// contextRow is a remembered rack, without its token.
type contextRow struct {
	Name    string `json:"name"`
	Addr    string `json:"addr"`
	Current bool   `json:"current"`
}

func (s *shell) listContexts() error {
	conf, err := s.loadConfig()
	if err != nil {
		return err
	}
	docs, rows := []contextRow{}, [][]string{}
	for _, name := range conf.names() {
		row := contextRow{Name: name, Addr: conf.Racks[name].Addr, Current: name == conf.Current}
		docs = append(docs, row)
		mark := ""
		if row.Current {
			mark = "current"
		}
		rows = append(rows, []string{row.Name, row.Addr, mark})
	}
	return s.print(docs, func() error { return s.table([]string{"RACK", "ADDRESS", "STATUS"}, rows) })
}

func (s *shell) useContext(name string) error {
	conf, err := s.loadConfig()
	if err != nil {
		return err
	}
	if _, ok := conf.Racks[name]; !ok {
		return conf.unknown(name)
	}
	conf.Current = name
	if err := s.saveConfig(conf); err != nil {
		return err
	}
	return s.print(contextRow{Name: name, Addr: conf.Racks[name].Addr, Current: true}, func() error {
		return s.answer("Rack " + name + " is the current one.")
	})
}

func (s *shell) removeContext(name string) error {
	conf, err := s.loadConfig()
	if err != nil {
		return err
	}
	if _, ok := conf.Racks[name]; !ok {
		return conf.unknown(name)
	}
	delete(conf.Racks, name)
	if conf.Current == name {
		conf.Current = ""
	}
	if err := s.saveConfig(conf); err != nil {
		return err
	}
	return s.print(map[string]any{"name": name, "removed": true}, func() error {
		return s.answer("Rack " + name + " is forgotten.")
	})
}
