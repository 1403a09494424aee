package pb

import "slipway/api"

// CheckProtocol reports whether an agent and a server understand each other: programs speak their own
// protocol (Protocol) and the one before it, so that either may be a version ahead. what names the
// machine at the other end, theirs is what it speaks, 0 for one of before there was a number.
func CheckProtocol(what string, theirs uint32) error {
	theirs = max(theirs, 1)
	switch {
	case theirs > Protocol+1:
		return api.Errorf(api.CodeConflict, "%s speaks protocol %d, this program %d: it is more than one version ahead; upgrade slipway here first, one version at a time", what, theirs, Protocol)
	case theirs+1 < Protocol:
		return api.Errorf(api.CodeConflict, "%s speaks protocol %d, this program %d: it is more than one version behind; upgrade slipway there first, one version at a time", what, theirs, Protocol)
	}
	return nil
}
