package rest

import "slices"

// routes is the table: everything that this API serves, and everything of Convox's that it answers
// with 501.
func routes() []route {
	return slices.Concat(
		systemRoutes(), appRoutes(), buildRoutes(), releaseRoutes(), processRoutes(), fileRoutes(), serviceRoutes(), instanceRoutes(), proxyRoutes(), registryRoutes(),
		missingRoutes(),
	)
}
