package router

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"slipway/api"
	"slipway/durable"
)

// load returns the table that was in force when the router stopped. A router that cannot read it
// starts without routes, as a new one does, and waits for its agent.
func (r *Router) load() api.RouteTable {
	var t api.RouteTable
	if r.cfg.StateFile == "" {
		return t
	}
	b, err := os.ReadFile(r.cfg.StateFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t
	case err == nil:
		err = json.Unmarshal(b, &t)
	}
	if err != nil {
		r.logger.Error("last route table could not be read", "file", r.cfg.StateFile, "err", err)
		return api.RouteTable{}
	}
	return t
}

// store keeps the table for the next start. The table is in force whether or not that works: a
// full disk must not stop traffic from moving.
func (r *Router) store(t api.RouteTable) {
	if r.cfg.StateFile == "" {
		return
	}
	b, err := json.Marshal(t)
	if err == nil {
		err = durable.WriteFile(r.cfg.StateFile, b)
	}
	if err != nil {
		r.logger.Error("route table could not be kept", "file", r.cfg.StateFile, "err", err)
	}
}
