//go:build !slipway_next

package state

import (
	"fmt"

	"slipway/api"
)

// FormatNewest is the newest format that this program reads.
const FormatNewest = FormatFirst

// Later are the commands that came with formats after the first, by format.
func Later() map[uint32][]Command { return nil }

// applyLater is the end of the switch: commands of later formats.
func (c *change) applyLater(cmd Command) *api.Error {
	return api.Errorf(api.CodeInternal, "command %s is not known to this version", fmt.Sprint(cmd.Type()))
}
