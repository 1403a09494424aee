//go:build slipway_next

package state

import (
	"fmt"

	"slipway/api"
)

// With the tag slipway_next the program is the next version of itself: one format further, with a
// command that the present one does not have. Tests upgrade to it, and back.

// FormatNewest is the newest format that this program reads.
const FormatNewest = FormatFirst + 1

// Remark leaves a remark among the events.
type Remark struct{ Text string }

// Type is the name of the command in the log.
func (Remark) Type() string { return "remark" }

// Later are the commands that came with formats after the first, by format.
func Later() map[uint32][]Command { return map[uint32][]Command{FormatNewest: {Remark{}}} }

// applyLater is the end of the switch: commands of later formats.
func (c *change) applyLater(cmd Command) *api.Error {
	switch cmd := cmd.(type) {
	case Remark:
		c.event("rack.remark", "", c.rack.Name, cmd.Text)
		return nil
	}
	return api.Errorf(api.CodeInternal, "command %s is not known to this version", fmt.Sprint(cmd.Type()))
}
