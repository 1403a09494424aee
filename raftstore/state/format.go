package state

import (
	"cmp"
	"fmt"
	"strings"

	"slipway/api"
)

// A rack has one format: the newest that anything in its log and its snapshots needs to be read.
// It only rises, by RaiseFormat, which Apply takes when every server on record reads the new one.
// Until then a newer program writes what the older one reads, so that servers of both take part,
// and the way back is open. A command that came with a later format, and a field with the tag
// `since:"N"`, are refused by the proposer below that format (package raftstore).
const (
	// FormatOldest is the oldest format that this program reads; FormatNewest, the newest, is in
	// format_now.go.
	FormatOldest = 1
	// FormatFirst is what a rack has before anything was raised.
	FormatFirst = 2
)

// Formats is what this program reads.
func Formats() api.Formats { return api.Formats{Oldest: FormatOldest, Newest: FormatNewest} }

// RaiseFormat lets the rack write what a newer format has. Every program reads the command: it is
// rejected while a server is behind, and one that claimed to read the format and does not, stops there.
type RaiseFormat struct{ To uint32 }

// Type is the name of the command in the log.
func (RaiseFormat) Type() string { return "raise_format" }

// Format returns the format of the rack.
func (v *View) Format() uint32 { return v.format }

// Behind returns the servers on record that do not read a format, by name.
func (v *View) Behind(format uint32) (names []string) {
	for s := range v.Servers() {
		if !s.Formats.Reads(format) {
			names = append(names, fmt.Sprintf("%s (%s)", s.Called(), cmp.Or(s.Version, "version not told")))
		}
	}
	return names
}

func (c *change) raiseFormat(cmd RaiseFormat) *api.Error {
	if cmd.To <= c.format {
		return api.Errorf(api.CodeConflict, "the rack has format %d already", c.format)
	}
	if behind := c.Behind(cmd.To); len(behind) > 0 {
		return TooOld(behind, cmd.To)
	}
	c.event("rack.format", "", c.rack.Name, fmt.Sprintf("from format %d to %d: programs that read less cannot take part any more", c.format, cmd.To))
	c.format = cmd.To
	c.res.Changes.All = true
	return nil
}

// TooOld is the error of what some servers could not read.
func TooOld(servers []string, format uint32) *api.Error {
	return api.Errorf(api.CodeConflict, "not every server reads format %d: %s; upgrade slipway there first, and see: slipway rack upgrade", format, strings.Join(servers, ", "))
}

// readable reports whether a server may take part in a rack of this format.
func (c *change) readable(s *api.Server) *api.Error {
	if s.Formats.Reads(c.format) {
		return nil
	}
	return api.Errorf(api.CodeConflict, "server %s reads formats %s, the rack has format %d; install the version of slipway that the other servers have", s.Called(), s.Formats, c.format)
}
