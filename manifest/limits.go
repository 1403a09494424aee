package manifest

import "slipway/api"

// The limits of a manifest. They bound the time and the memory of Load for any text, and are
// far above what an app needs.
const (
	// SizeMax is the longest text that Load accepts, in bytes.
	SizeMax = 256 << 10

	depthMax    = 32
	nodesMax    = 20_000    // values, aliases expanded
	entriesMax  = 1000      // of one list or map
	pathMax     = 512       // bytes of a path such as services.web.port
	scalarMax   = 128 << 10 // bytes of one text: what Linux allows for one argument or variable
	expandedMax = 4 << 20   // bytes of all texts, aliases and variables expanded

	servicesMax = 250
	declaredMax = 1000 // variables of one service
	domainsMax  = 100  // of one service
	// deliveredMax bounds the bytes of commands, variables and labels that all services
	// together receive: what is declared for the whole app counts once for each.
	deliveredMax = 8 << 20
)

// deliver counts what a service receives and reports, once, that it is too much.
func (l *loader) deliver(n *node, size int) {
	before := l.delivered
	l.delivered += size
	if before <= deliveredMax && l.delivered > deliveredMax {
		l.problem(n, "the services receive more than %s of commands, variables and labels in total", api.Bytes(deliveredMax)).
			hint("declare variables where they are needed and by name, not by \"*\"")
	}
}
