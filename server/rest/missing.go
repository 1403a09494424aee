package rest

// missingRoutes are the routes of Convox, version 2 and 3, that this rack has nothing behind yet.
// docs/convox.md lists them.
func missingRoutes() []route {
	var out []route
	for _, group := range []struct {
		why    string
		routes [][2]string
	}{
		{"the rack has no backing services yet; give the app the URL of one in its environment", [][2]string{
			{"GET", "/apps/{app}/resources/{name}"}, {"GET", "/apps/{app}/resources/{name}/data"},
			{"PUT", "/apps/{app}/resources/{name}/data"}, {socketMethod, "/apps/{app}/resources/{name}/console"},
			{"GET", "/resources"}, {"POST", "/resources"}, {"OPTIONS", "/resources"}, {"GET", "/resources/{name}"}, {"PUT", "/resources/{name}"},
			{"DELETE", "/resources/{name}"}, {"POST", "/resources/{name}/links"}, {"DELETE", "/resources/{name}/links/{app}"},
		}},
		{"the rack makes the certificates of its routes itself; it takes none yet", [][2]string{
			{"GET", "/certificates"}, {"POST", "/certificates"}, {"POST", "/certificates/generate"}, {"DELETE", "/certificates/{id}"},
			{"POST", "/certificates/{id}/renew"}, {"PUT", "/apps/{app}/ssl/{service}/{port}"}, {"GET", "/letsencrypt/config"}, {"PUT", "/letsencrypt/config"},
		}},
		{"the rack has no balancers for raw TCP and UDP yet; give the service host ports (hostPorts)", [][2]string{{"GET", "/apps/{app}/balancers"}}},
		{"apps have no config files yet; use the environment", [][2]string{
			{"GET", "/apps/{app}/configs"}, {"GET", "/apps/{app}/configs/{name}"}, {"PUT", "/apps/{app}/configs/{name}"},
		}},
		{"the rack keeps no history of measurements; /metrics has the present ones for Prometheus", [][2]string{
			{"GET", "/apps/{app}/metrics"}, {"GET", "/apps/{app}/metrics-by-service"}, {"GET", "/apps/{app}/services/{service}/metrics"}, {"GET", "/system/metrics"},
		}},
		{"images of others are taken from the manifest (image:)", [][2]string{{"POST", "/apps/{app}/builds/{id}/image"}}},
		{"a build is described by the rack alone", [][2]string{{"PUT", "/apps/{app}/builds/{id}"}}},
		{"the rack keeps no objects for apps", [][2]string{
			{"GET", "/apps/{app}/objects"}, {"GET", "/apps/{app}/objects/{key...}"}, {"HEAD", "/apps/{app}/objects/{key...}"}, {"DELETE", "/apps/{app}/objects/{key...}"},
		}},
		{"files of a process cannot be deleted from outside; run: convox exec PROCESS rm FILE", [][2]string{{"DELETE", "/apps/{app}/processes/{pid}/files"}}},
		{"scale a service by its count; autoscaling stands in the manifest", [][2]string{
			{"POST", "/apps/{app}/services/{service}/scale-override"}, {"POST", "/apps/{app}/services/{service}/triggers/enable"},
			{"POST", "/apps/{app}/services/{service}/triggers/disable"}, {"POST", "/apps/{app}/services/{service}/triggers/threshold"},
		}},
		{"ask why with: slipway why", [][2]string{{"GET", "/apps/{app}/diagnose"}}},
		{"a release shows its manifest", [][2]string{{"GET", "/apps/{app}/manifest/services/{service}"}}},
		{"the rack counts no costs", [][2]string{
			{"GET", "/apps/{app}/cost"}, {"GET", "/apps/{app}/budget"}, {"POST", "/apps/{app}/budget"}, {"DELETE", "/apps/{app}/budget"},
			{"GET", "/apps/{app}/budget/shutdown-state"}, {"POST", "/apps/{app}/budget/reset"}, {"POST", "/apps/{app}/budget/simulate-shutdown"},
			{"POST", "/apps/{app}/budget/dismiss-recovery"},
		}},
		{"the rack is updated by its packages (docs/operate.md), and has no parameters", [][2]string{{"PUT", "/system"}, {"GET", "/system/releases"}}},
		{"revoke a token with: slipway tokens delete", [][2]string{{"PUT", "/system/jwt/rotate"}}},
		{"the rack takes no events from outside; it tells its own: slipway events", [][2]string{{"POST", "/events"}}},
		{"nodes are entered by the means of their own", [][2]string{{socketMethod, "/instances/{id}/shell"}, {"POST", "/instances/keyroll"}}},
	} {
		for _, r := range group.routes {
			out = append(out, route{method: r[0], path: r[1], right: rightRead, missing: group.why, summary: "Not supported: " + group.why})
		}
	}
	return out
}
